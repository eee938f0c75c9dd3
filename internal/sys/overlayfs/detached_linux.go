package overlayfs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Layers are the directories of an overlay mount.
type Layers struct {
	Lower       []string // uppermost first
	Upper, Work string   // both empty for a read-only view
	Options     []string // further options, "key" or "key=value"
}

// Detached makes the mount and returns its root, opened with O_PATH. A single
// lower directory without an upper one needs no mount and is opened itself.
func Detached(l Layers) (*os.File, error) {
	if len(l.Lower) == 0 {
		return nil, errors.New("an overlay mount needs a lower directory")
	}
	if l.Upper == "" && len(l.Lower) == 1 {
		fd, err := unix.Open(l.Lower[0], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: l.Lower[0], Err: err}
		}
		return os.NewFile(uintptr(fd), l.Lower[0]), nil
	}
	if listsLayers() {
		return byConfig(l)
	}
	return byMount(l)
}

// listsLayers tells whether fsconfig takes lower layers one by one, which began with Linux 6.8. Kernels
// before 6.5 cannot be asked: they take any option, and refuse the mount.
var listsLayers = sync.OnceValue(func() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return n == 2 && (major > 6 || major == 6 && minor >= 8)
})

func byConfig(l Layers) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("overlayfs is not there: %w", err)
	}
	defer unix.Close(fs)
	if err := configure(fs, l); err != nil {
		return nil, withLog(fs, err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, withLog(fs, fmt.Errorf("making an overlay mount: %w", err))
	}
	attr := 0
	if l.Upper == "" {
		attr = unix.MOUNT_ATTR_RDONLY
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return nil, withLog(fs, fmt.Errorf("making an overlay mount: %w", err))
	}
	return os.NewFile(uintptr(m), "overlay"), nil
}

func configure(fs int, l Layers) error {
	set := func(key, value string) error {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return fmt.Errorf("overlay option %s=%s: %w", key, value, err)
		}
		return nil
	}
	for _, d := range l.Lower {
		if err := set("lowerdir+", d); err != nil {
			return err
		}
	}
	if l.Upper != "" {
		if err := errors.Join(set("upperdir", l.Upper), set("workdir", l.Work)); err != nil {
			return err
		}
	}
	for _, o := range l.Options {
		key, value, ok := strings.Cut(o, "=")
		if ok {
			if err := set(key, value); err != nil {
				return err
			}
		} else if err := unix.FsconfigSetFlag(fs, key); err != nil {
			return fmt.Errorf("overlay option %s: %w", key, err)
		}
	}
	return nil
}

// withLog adds what the kernel says about the failure.
func withLog(fs int, err error) error {
	b := make([]byte, 1024)
	n, rerr := unix.Read(fs, b)
	if rerr != nil || n <= 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(b[:n])))
}
