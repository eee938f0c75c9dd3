// Package hostmount implements containers.HostMounts: the few things that are mounted or
// looked up on the host, not inside a container, when a container starts.
package hostmount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

// Mounts implements containers.HostMounts. What is mounted is the kernel's to know.
type Mounts struct{ dir string }

var _ containers.HostMounts = (*Mounts)(nil)

// New makes mount points below dir, a folder of its own on the exec root, and takes away
// what a daemon that crashed has left there.
func New(dir string) *Mounts {
	left, _ := os.ReadDir(dir) // mostly there is none
	for _, e := range left {
		drop(filepath.Join(dir, e.Name()))
	}
	return &Mounts{dir: dir}
}

// SharedMemory implements containers.HostMounts.
func (*Mounts) SharedMemory(path string, size int64, label string) error {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	if err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return nil
	}
	data := "mode=1777,size=" + strconv.FormatInt(size, 10)
	if label != "" {
		data += ",context=" + strconv.Quote(label)
	}
	failpoint.Hit("gantryd.shm-mount")
	if err := unix.Mount("shm", path, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return fmt.Errorf("mounting shared memory of %d bytes at %s: %w", size, path, err)
	}
	return nil
}

// Unmount implements containers.HostMounts.
func (*Mounts) Unmount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	failpoint.Hit("gantryd.shm-unmounted")
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmounting shared memory at %s: %w", path, err)
	}
	return nil
}

// Inside implements containers.HostMounts: the place is mounted below the folder given to New,
// because a mount is cloned from where it is mounted, and its own path may be moved by who writes
// into the volume.
func (m *Mounts) Inside(dir, subpath string) (string, func(), error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("opening %s: %w", dir, err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, subpath, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return "", nil, fmt.Errorf("there is no %s in %s: make it before it is mounted: %w", subpath, dir, errdefs.ErrNotFound)
	case errors.Is(err, unix.EXDEV):
		return "", nil, fmt.Errorf("%s leads out of %s: %w", subpath, dir, errdefs.ErrInvalidArgument)
	case err != nil:
		return "", nil, fmt.Errorf("opening %s in %s: %w", subpath, dir, err)
	}
	defer unix.Close(fd)
	at, err := m.point(fd)
	if err != nil {
		return "", nil, err
	}
	if err := bind(fd, at); err != nil {
		_ = os.Remove(at)
		return "", nil, fmt.Errorf("mounting %s of %s at %s: %w", subpath, dir, at, err)
	}
	return at, func() { drop(at) }, nil
}

// point makes a mount point of the kind that fd is.
func (m *Mounts) point(fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return "", err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.MkdirTemp(m.dir, "")
	}
	f, err := os.CreateTemp(m.dir, "")
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

func bind(fd int, at string) error {
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// drop takes a mount point away. What lies below it is a volume's: it must never be deleted
// recursively, and os.Remove of a place that is still mounted fails.
func drop(at string) {
	_ = unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	_ = os.Remove(at)
}
