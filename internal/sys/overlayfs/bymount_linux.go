package overlayfs

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// byMount is Detached for kernels before 6.8, whose fsconfig takes 255 bytes for all lower layers:
// mount(2) takes a page. It happens in a mount namespace of its own, on a thread that ends with it, so that the host
// never sees the mount; the detached clone stays.
func byMount(l Layers) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	work := func() {
		f, err := mountAndClone(l)
		done <- result{f, err}
	}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		if unix.Gettid() != unix.Getpid() {
			work()
			return
		}
		// The process's first thread cannot end; while it is held, another one is taken.
		moved := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(moved)
			work()
		}()
		<-moved
		runtime.UnlockOSThread()
	}()
	r := <-done
	return r.f, r.err
}

func mountAndClone(l Layers) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("making mounts private: %w", err)
	}
	data, at, opened, err := shortOptions(l)
	defer func() {
		for _, fd := range opened {
			unix.Close(fd)
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := unix.Chdir("/proc/thread-self/fd"); err != nil {
		return nil, &os.PathError{Op: "chdir", Path: "/proc/thread-self/fd", Err: err}
	}
	var flags uintptr
	if l.Upper == "" {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount("overlay", at, "overlay", flags, data); err != nil {
		return nil, fmt.Errorf("making an overlay mount of %d layers (%s): %w", len(l.Lower), data, err)
	}
	m, err := unix.OpenTree(unix.AT_FDCWD, at, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("detaching an overlay mount: %w", err)
	}
	return os.NewFile(uintptr(m), "overlay"), nil
}

// shortOptions are the mount's options, with every folder named by its descriptor's number below
// /proc/thread-self/fd: short, and without a character that would need escaping. At is where to mount.
func shortOptions(l Layers) (data, at string, opened []int, err error) {
	number := func(path string) string {
		fd, e := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if e != nil {
			if err == nil {
				err = &os.PathError{Op: "open", Path: path, Err: e}
			}
			return ""
		}
		opened = append(opened, fd)
		return strconv.Itoa(fd)
	}
	numbers := make([]string, len(l.Lower))
	for i, d := range l.Lower {
		numbers[i] = number(d)
	}
	options, at := []string{"lowerdir=" + strings.Join(numbers, ":")}, l.Lower[len(l.Lower)-1]
	if l.Upper != "" {
		options, at = append(options, "upperdir="+number(l.Upper), "workdir="+number(l.Work)), l.Work
	}
	return strings.Join(append(options, l.Options...), ","), at, opened, err
}
