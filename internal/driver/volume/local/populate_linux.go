package local

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/overlayfs"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// filling is the folder beside _data into which a copy goes first: renamed over
// the empty _data when it is whole, swept after a crash.
const filling = "_filling"

// Populate copies the image's folder at path into the volume if that is empty.
// The image is read through a detached mount: no link leads out of it.
func (d *Driver) Populate(ctx context.Context, name string, root spec.Rootfs, path string) (err error) {
	at := d.Path(name)
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
	mounted := sameDevice(filepath.Dir(at), at) != nil
	if mounted { // a volume that is a mount of its own cannot be renamed over
		return copyTree(ctx, src, at)
	}
	tmp := filepath.Join(d.dir(name), filling)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if err := copyTree(ctx, src, tmp); err != nil {
		return err
	}
	return unix.Rename(tmp, at) // replaces an empty folder only
}

// copyTree copies a folder's content, and its own owner, mode and times.
func copyTree(ctx context.Context, src int, to string) error {
	dst, err := tarfs.OpenRoot(to)
	if err != nil {
		return err
	}
	defer dst.Close()
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
	_, err = tarfs.Extract(ctx, dst, r, tarfs.ExtractOptions{})
	_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if perr := <-packed; perr != nil && err == nil {
		err = perr
	}
	if err != nil {
		return err
	}
	return copyOwn(src, to)
}

func copyOwn(src int, to string) error {
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if err := os.Chown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, 0)
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

// sameDevice fails if one path is on another file system than the other.
func sameDevice(a, b string) error {
	var sa, sb syscall.Stat_t
	if err := errors.Join(syscall.Stat(a, &sa), syscall.Stat(b, &sb)); err != nil {
		return err
	}
	if sa.Dev != sb.Dev {
		return fmt.Errorf("%s and %s are on two file systems", a, b)
	}
	return nil
}
