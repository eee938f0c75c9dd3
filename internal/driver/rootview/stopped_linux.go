package rootview

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/overlayfs"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// stopped puts a stopped container's tree together. done lets go of it.
func stopped(r spec.Rootfs, mounts []specs.Mount) (root *os.File, done func(), err error) {
	top, err := rootMount(r)
	if err != nil {
		return nil, nil, err
	}
	binds, ro := bindMounts(mounts), readOnlyRoot(mounts)
	if len(binds) == 0 && (!ro || r.Overlay()) {
		if ro {
			if err := setReadOnly(int(top.Fd())); err != nil {
				return nil, nil, errors.Join(err, top.Close())
			}
		}
		return top, func() {}, nil
	}
	defer top.Close()
	stop := make(chan struct{})
	result := make(chan error)
	go inNamespace(stop, result, func() error {
		var err error
		root, err = assemble(top, r, binds)
		if err == nil && ro { // now that all mount points are there
			if err = setReadOnly(int(root.Fd())); err != nil {
				err = errors.Join(err, root.Close())
			}
		}
		return err
	})
	if err := <-result; err != nil {
		return nil, nil, err
	}
	return root, func() { close(stop) }, nil
}

// inNamespace runs fn on a thread with a mount namespace of its own, and keeps the thread, and
// with it the mounts, until stop. The thread is never given back: it ends with the goroutine.
func inNamespace(stop <-chan struct{}, result chan<- error, fn func() error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The process's first thread cannot end, and others look at it (/proc/self): take another one.
		moved := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(moved)
			private(stop, result, fn)
		}()
		<-moved
		runtime.UnlockOSThread()
		return
	}
	private(stop, result, fn)
}

func private(stop <-chan struct{}, result chan<- error, fn func() error) {
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err == nil {
		// Slave at least: nothing that is mounted here may reach the host.
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err != nil {
		result <- fmt.Errorf("making a mount namespace: %w", err)
		return
	}
	err = fn()
	result <- err
	if err == nil {
		<-stop
	}
}

// rootMount opens the container's root without its volumes.
func rootMount(r spec.Rootfs) (*os.File, error) {
	if !r.Overlay() {
		return tarfs.OpenRoot(r.Path)
	}
	l := overlayfs.Layers{Lower: r.Lower, Upper: r.Upper, Work: r.Work}
	for _, o := range r.Options {
		if o != "volatile" {
			l.Options = append(l.Options, o)
			continue
		}
		// The mark of a former volatile mount forbids the next one; the container does not run.
		if err := os.RemoveAll(filepath.Join(r.Work, "work", "incompat")); err != nil {
			return nil, err
		}
	}
	return overlayfs.Detached(l)
}

// readOnlyRoot tells whether the mounts say that the root itself is read-only.
func readOnlyRoot(mounts []specs.Mount) bool {
	return slices.ContainsFunc(mounts, func(m specs.Mount) bool {
		return m.Destination == "/" && m.Source == "" && slices.Contains(m.Options, "ro")
	})
}

func setReadOnly(mount int) error {
	return unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// bindMounts are the mounts that show something of the host, outer ones first.
func bindMounts(mounts []specs.Mount) (binds []specs.Mount) {
	for _, m := range mounts {
		if m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind") {
			binds = append(binds, m)
		}
	}
	slices.SortStableFunc(binds, func(a, b specs.Mount) int {
		return strings.Count(path.Clean(a.Destination), "/") - strings.Count(path.Clean(b.Destination), "/")
	})
	return binds
}

// assemble attaches root and bind mounts at a folder of the container's own
// and opens the result. It runs inside the private namespace.
func assemble(top *os.File, r spec.Rootfs, binds []specs.Mount) (*os.File, error) {
	mount := int(top.Fd())
	if r.Path != "" {
		clone, err := unix.OpenTree(unix.AT_FDCWD, r.Path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return nil, &os.PathError{Op: "open_tree", Path: r.Path, Err: err}
		}
		defer unix.Close(clone)
		mount = clone
	}
	at := cmp.Or(r.Path, filepath.Dir(r.Upper))
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return nil, fmt.Errorf("attaching the root file system: %w", err)
	}
	root, err := tarfs.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	for _, b := range binds {
		if err := attach(root, b); err != nil {
			return nil, errors.Join(fmt.Errorf("attaching %s at %s: %w", b.Source, b.Destination, err), root.Close())
		}
	}
	return root, nil
}

func attach(root *os.File, b specs.Mount) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if slices.Contains(b.Options, "rbind") {
		flags |= unix.AT_RECURSIVE
	}
	src, err := openSource(b, flags)
	if errors.Is(err, unix.ENOENT) {
		return nil // the container would not start either; what is there can still be copied
	}
	if err != nil {
		return err
	}
	defer unix.Close(src)
	if slices.Contains(b.Options, "ro") {
		if err := setReadOnly(src); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstatat(src, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	dst, err := mountPoint(root, b.Destination, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	return unix.MoveMount(src, "", dst, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// openSource clones what is to be mounted. The option "subpath=…" names a place below
// the source, resolved inside it: no link in a volume leads out of the volume.
func openSource(b specs.Mount, flags uint) (int, error) {
	i := slices.IndexFunc(b.Options, func(o string) bool { return strings.HasPrefix(o, subpath) })
	if i < 0 {
		return unix.OpenTree(unix.AT_FDCWD, b.Source, flags)
	}
	volume, err := tarfs.OpenRoot(b.Source)
	if err != nil {
		return -1, err
	}
	defer volume.Close()
	fd, err := unix.Openat2(int(volume.Fd()), strings.TrimPrefix(b.Options[i], subpath), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return unix.OpenTree(fd, "", flags|unix.AT_EMPTY_PATH)
}

const subpath = "subpath="

// mountPoint opens where something is to be mounted, making what is missing as a start would.
func mountPoint(root *os.File, p string, dir bool) (int, error) {
	fd, err := tarfs.OpenIn(int(root.Fd()), p, unix.O_PATH)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	at := "/"
	parts := strings.Split(strings.Trim(path.Clean("/"+p), "/"), "/")
	for i, part := range parts {
		parent, err := tarfs.OpenDirIn(int(root.Fd()), at)
		if err != nil {
			return -1, err
		}
		if i < len(parts)-1 || dir {
			err = unix.Mkdirat(parent, part, 0o755)
		} else {
			err = unix.Mknodat(parent, part, unix.S_IFREG|0o644, 0)
		}
		_ = unix.Close(parent)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, err
		}
		at = path.Join(at, part)
	}
	return tarfs.OpenIn(int(root.Fd()), p, unix.O_PATH)
}
