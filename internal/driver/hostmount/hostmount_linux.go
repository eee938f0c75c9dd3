// Package hostmount implements containers.HostMounts: the few things that are mounted or
// looked up on the host, not inside a container, when a container starts.
package hostmount

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/service/containers"
)

// Mounts implements containers.HostMounts. It has no state: what is mounted is the kernel's to know.
type Mounts struct{}

var _ containers.HostMounts = Mounts{}

// SharedMemory implements containers.HostMounts.
func (Mounts) SharedMemory(path string, size int64, label string) error {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	if err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return nil
	}
	data := "mode=1777,size=" + strconv.FormatInt(size, 10)
	if label != "" {
		data += ",context=" + strconv.Quote(label)
	}
	if err := unix.Mount("shm", path, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return fmt.Errorf("mounting shared memory of %d bytes at %s: %w", size, path, err)
	}
	return nil
}

// Unmount implements containers.HostMounts.
func (Mounts) Unmount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmounting shared memory at %s: %w", path, err)
	}
	return nil
}

// Inside implements containers.HostMounts: the name is that of an open descriptor.
func (Mounts) Inside(dir, subpath string) (string, func(), error) {
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
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), func() { _ = unix.Close(fd) }, nil
}
