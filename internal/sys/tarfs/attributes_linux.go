package tarfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// attributes gives entries that were made what the archive says of them besides their content.
type attributes struct {
	owner     *Owner // overrides every entry's
	keepOwner bool
	times     *dirTimes
}

// set gives an entry its owner, extended attributes, mode and times through an open
// descriptor (O_PATH or not), in this order: a change of owner clears capabilities and set-id bits.
func (a *attributes) set(fd int, full string, h *tar.Header) error {
	uid, gid := h.Uid, h.Gid
	if a.owner != nil {
		uid, gid = a.owner.UID, a.owner.GID
	}
	if uid < 0 || gid < 0 || int64(uid) >= 1<<32-1 || int64(gid) >= 1<<32-1 {
		return fmt.Errorf("the owner %d:%d is out of range: %w", uid, gid, errdefs.ErrInvalidArgument)
	}
	if !a.keepOwner {
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("changing the owner to %d:%d: %w", uid, gid, err)
		}
	}
	if err := setXattrs(fd, h); err != nil {
		return err
	}
	times := [2]unix.Timespec{timespec(h.ModTime), timespec(h.ModTime)}
	if !h.AccessTime.IsZero() {
		times[0] = timespec(h.AccessTime)
	}
	if h.Typeflag == tar.TypeSymlink {
		return utimes(fd, times)
	}
	if err := unix.Chmod(fdPath(fd), uint32(h.Mode)&0o7777); err != nil {
		return fmt.Errorf("changing the mode: %w", err)
	}
	if h.Typeflag == tar.TypeDir {
		a.times.later(full, times)
		return nil
	}
	return utimes(fd, times)
}

const paxXattr = "SCHILY.xattr."

// setXattrs sets the extended attributes that an archive has for the entry.
func setXattrs(fd int, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || overlayOwn(name) {
			// An archive that could set overlayfs's own attributes could redirect into other layers.
			continue
		}
		err := unix.Setxattr(fdPath(fd), name, []byte(value), 0)
		switch {
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM) && strings.HasPrefix(name, "user."):
			// not kept by this file system, or by links and devices
		case err != nil:
			return fmt.Errorf("setting the attribute %s: %w", name, err)
		}
	}
	return nil
}

func overlayOwn(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}
