//go:build linux && (amd64 || arm64)

package spawn

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// trees makes the mounts; the descriptors are closed with opened.
func trees(f *Facts, opened *closer) ([]int, error) {
	fds := make([]int, len(f.Trees))
	for i := range f.Trees {
		fd, err := tree(&f.Trees[i], opened)
		if err != nil {
			return nil, err
		}
		fds[i] = fd
	}
	return fds, nil
}

func tree(t *Tree, opened *closer) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if t.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, t.Source, flags)
	if err != nil {
		return -1, &Error{Stage: "mount", Path: t.Source, Errno: errno(err), Text: "bind source path " + t.Source + ": " + err.Error()}
	}
	opened.add(fd)
	if !t.Shared {
		attr := unix.MountAttr{Propagation: unix.MS_SLAVE}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return -1, failed("mount", t.Source, err)
		}
	}
	if len(t.UIDMap)+len(t.GIDMap) == 0 {
		return fd, nil
	}
	ns, err := mapped(&Facts{UIDMap: t.UIDMap, GIDMap: t.GIDMap, Setgroups: true})
	if err != nil {
		return -1, failed("id-mapped mount", t.Source, err)
	}
	defer ns.Close()
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	how := uint(unix.AT_EMPTY_PATH)
	if t.MapRecursive {
		how |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(fd, "", how, &attr); err != nil {
		return -1, failed("id-mapped mount", t.Source, fmt.Errorf("the file system there does not allow it: %w", err))
	}
	return fd, nil
}

func errno(err error) (e unix.Errno) {
	errors.As(err, &e)
	return e
}

// mapped makes a user namespace with id maps, by a process that does nothing but hold it meanwhile.
func mapped(f *Facts) (*os.File, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	pidfd := int32(-1)
	c := &child{mapsPipe: pipe[0], out: new(outcome)}
	c.first = cloneArgs{flags: unix.CLONE_NEWUSER | unix.CLONE_PIDFD, pidfd: uint64(uintptr(unsafe.Pointer(&pidfd)))}
	r := c.clone() // waits for the pipe, in which nobody will ever write
	afterFork()
	runtime.KeepAlive(&pidfd)
	if r > ^uintptr(4095) {
		return nil, fmt.Errorf("making a user namespace: %w", unix.Errno(-r))
	}
	defer func() {
		_ = unix.PidfdSendSignal(int(pidfd), unix.SIGKILL, nil, 0)
		_, _ = unix.Wait4(int(r), nil, unix.WALL, nil)
		unix.Close(int(pidfd))
	}()
	if err := writeMaps(int(r), f); err != nil {
		return nil, err
	}
	return os.Open(fmt.Sprintf("/proc/%d/ns/user", r))
}
