package local

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/overlayfs"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// filling is the folder beside _data into which a copy goes first: renamed over
// the empty _data when it is whole and on disk, swept after a crash.
const filling = "_filling"

// In a volume that is a mount of its own the copy goes through two folders inside it:
// halfFilled while it is made, wholeFilled while what it holds moves up.
const (
	halfFilled  = ".gantry-filling"
	wholeFilled = ".gantry-filled"
)

// Populate copies the image's folder at path into the volume if that is empty.
// The image is read through a detached mount: no link leads out of it. When Populate
// returns the copy is on disk; a crash on the way leaves the volume empty, or is made good by
// the next call (or Mount).
func (d *Driver) Populate(ctx context.Context, name string, root spec.Rootfs, path string) (err error) {
	at := d.Path(name)
	own, err := mountinfo.Mounted(at)
	if err != nil {
		return err
	}
	if own {
		if err := finishFilling(at); err != nil {
			return err
		}
	}
	if empty, err := isEmpty(at); err != nil || !empty {
		return err
	}
	lower := root.Lower
	if len(lower) == 0 {
		lower = []string{root.Path}
	}
	tree, err := overlayfs.Detached(overlayfs.Layers{Lower: lower, Options: root.Options})
	if err != nil {
		return err
	}
	defer tree.Close()
	src, err := tarfs.OpenDirIn(int(tree.Fd()), path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // the image has nothing there
	}
	if err != nil {
		return err
	}
	defer unix.Close(src)
	if own {
		return fillMounted(ctx, src, at)
	}
	dir, err := tarfs.OpenRoot(d.dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := copyDurably(ctx, src, dir, filling); err != nil {
		return err
	}
	if err := unix.Rename(filepath.Join(d.dir(name), filling), at); err != nil { // replaces an empty folder, and nothing else
		return errors.Join(err, os.RemoveAll(filepath.Join(d.dir(name), filling)))
	}
	return syncDir(d.dir(name))
}

// openNew makes a folder and opens it. Nobody who writes in the parent meanwhile can
// lead us elsewhere: neither a link in its place nor a renamed folder is followed.
func openNew(parent *os.File, name string) (*os.File, error) {
	if err := unix.Mkdirat(int(parent.Fd()), name, 0o700); err != nil {
		return nil, &os.PathError{Op: "mkdir", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	return openFolder(parent, name)
}

func openFolder(parent *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(parent.Name(), name)), nil
}

// copyDurably makes the folder name in parent a copy of src, on disk, or nothing at all.
func copyDurably(ctx context.Context, src int, parent *os.File, name string) (err error) {
	whole := filepath.Join(parent.Name(), name)
	if err := os.RemoveAll(whole); err != nil {
		return err
	}
	to, err := openNew(parent, name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(whole))
		}
	}()
	defer to.Close()
	if err := copyTree(ctx, src, to); err != nil {
		return err
	}
	// One sync for all files: without it a renamed folder could hold empty files after a power failure.
	return unix.Syncfs(int(to.Fd()))
}

// fillMounted fills a volume that is a mount of its own, whose root cannot be renamed
// over. One that is read-only stays empty.
func fillMounted(ctx context.Context, src int, at string) error {
	root, err := os.Open(at)
	if err != nil {
		return err
	}
	defer root.Close()
	if readOnly(root) {
		return nil
	}
	if err := copyDurably(ctx, src, root, halfFilled); err != nil {
		return err
	}
	fd := int(root.Fd())
	if err := unix.Renameat(fd, halfFilled, fd, wholeFilled); err != nil {
		return errors.Join(err, os.RemoveAll(filepath.Join(at, halfFilled)))
	}
	if err := root.Sync(); err != nil {
		return err
	}
	return finishFilling(at)
}

func readOnly(f *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && st.Flags&unix.ST_RDONLY != 0
}

// finishFilling makes good what a crash interrupted: half a copy goes away, what a
// whole one holds moves up. What has the name already stays: somebody else made it.
func finishFilling(at string) error {
	root, err := os.Open(at)
	if err != nil {
		return err
	}
	defer root.Close()
	if readOnly(root) {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(at, halfFilled)); err != nil {
		return err
	}
	whole, err := openFolder(root, wholeFilled)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // nothing, or not ours
	}
	if err != nil {
		return err
	}
	defer whole.Close()
	names, err := whole.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := moveUp(whole, root, n); err != nil {
			return fmt.Errorf("finishing an interrupted filling: %w", err)
		}
	}
	if err := copyOwn(int(whole.Fd()), root); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(at, wholeFilled)), root.Sync())
}

func moveUp(from, to *os.File, name string) error {
	f, t := int(from.Fd()), int(to.Fd())
	err := unix.Renameat2(f, name, t, name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // this file system has no such flag
		var st unix.Stat_t
		if unix.Fstatat(t, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			return nil
		}
		err = unix.Renameat(f, name, t, name)
	}
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// copyTree copies a folder's content, and its own owner, mode and times.
func copyTree(ctx context.Context, src int, to *os.File) error {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		b := bufio.NewWriterSize(w, 256<<10)
		tw := tar.NewWriter(b)
		err := tarfs.Pack(ctx, src, "", tw, tarfs.PackOptions{})
		if err == nil {
			err = errors.Join(tw.Close(), b.Flush())
		}
		_ = w.CloseWithError(err)
		packed <- err
	}()
	_, err := tarfs.Extract(ctx, to, r, tarfs.ExtractOptions{})
	_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if perr := <-packed; perr != nil && err == nil {
		err = perr
	}
	if err != nil {
		return err
	}
	return copyOwn(src, to)
}

func copyOwn(src int, to *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	fd := int(to.Fd())
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.Futimes(fd, []unix.Timeval{unix.NsecToTimeval(st.Atim.Nano()), unix.NsecToTimeval(st.Mtim.Nano())})
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}
