package netlink

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// settingsUses is after how many uses the view of /proc is made anew.
const settingsUses = 32

// settings is a procfs of our own, attached nowhere, for writing network settings. The kernel finds a setting of one
// namespace among the equally named ones of all namespaces that were looked up through the same procfs, one after
// the other: with a thousand containers that takes milliseconds in the host's /proc, and slows down everybody there.
var settings struct {
	mu   sync.Mutex
	view *os.File
	uses int
}

// openSetting opens a file below /proc/sys for writing, in the calling thread's network namespace.
func openSetting(path string) (*os.File, error) {
	s := &settings
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view != nil && s.uses >= settingsUses {
		_ = s.view.Close()
		s.view = nil
	}
	if s.view == nil {
		s.view, s.uses = privateProc(), 0
	}
	s.uses++
	if s.view == nil {
		return os.OpenFile("/proc/sys/"+path, os.O_WRONLY, 0)
	}
	fd, err := unix.Openat(int(s.view.Fd()), "sys/"+path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/proc/sys/" + path, Err: err}
	}
	return os.NewFile(uintptr(fd), "/proc/sys/"+path), nil
}

// privateProc makes a procfs that nothing else sees, or nil where that is not allowed.
func privateProc() *os.File {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil
	}
	defer unix.Close(fs)
	if unix.FsconfigCreate(fs) != nil {
		return nil
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "proc")
}
