package netlink

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

const threadNS = "/proc/thread-self/ns/net"

// NewNamespace makes a network namespace that only the returned descriptor keeps
// alive: no mount, no process. setup, if not nil, runs on a thread inside it.
func NewNamespace(setup func() error) (*os.File, error) {
	var ns *os.File
	err := elsewhere(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		f, err := os.Open(threadNS)
		if err != nil {
			return fmt.Errorf("opening the new network namespace: %w", err)
		}
		if setup != nil {
			if err := setup(); err != nil {
				_ = f.Close()
				return err
			}
		}
		ns = f
		return nil
	})
	return ns, err
}

// Do runs fn on a thread inside ns. fn must not start goroutines that count on it.
func Do(ns *os.File, fn func() error) error {
	return elsewhere(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return fn()
	})
}

// OfProcess opens the network namespace of a running process.
func OfProcess(pid int) (*os.File, error) {
	return os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
}

// elsewhere runs fn on a locked thread and brings the thread back to the namespace
// it came from. A thread that cannot be brought back is never reused: its goroutine
// ends while locked, and the Go runtime ends the thread with it.
func elsewhere(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(threadNS)
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("opening this thread's network namespace: %w", err)
			return
		}
		defer home.Close()
		err = fn()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// WriteSysctl sets a net.* setting of the calling thread's namespace. name is given
// with dots or, where an interface's name contains dots, with slashes.
func WriteSysctl(name, value string) error {
	p := name
	if !strings.Contains(p, "/") {
		p = strings.ReplaceAll(p, ".", "/")
	}
	if p = path.Clean("/" + p); !strings.HasPrefix(p, "/net/") {
		return fmt.Errorf("sysctl %s is not a network setting: %w", name, unix.EINVAL)
	}
	f, err := openSetting(p[1:])
	if err == nil {
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("setting sysctl %s to %q: %w", name, value, err)
	}
	return nil
}

// ReadSysctl reads a net.* setting of the calling thread's namespace.
func ReadSysctl(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")))
	return strings.TrimSpace(string(b)), err
}

// SetSysctls sets net.* settings inside ns.
func SetSysctls(ns *os.File, values map[string]string) error {
	if len(values) == 0 {
		return nil
	}
	return Do(ns, func() error {
		for name, value := range values {
			if err := WriteSysctl(name, value); err != nil {
				return err
			}
		}
		return nil
	})
}

// LoopbackUp brings lo of the calling thread's namespace up.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bringing loopback up: %w", err)
	}
	return nil
}
