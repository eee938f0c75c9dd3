//go:build linux

package initproc

import (
	"syscall"
	"unsafe"
)

// overlayByMount stacks the layers with mount(2), for kernels before 6.8. Their fsconfig takes
// 255 bytes for all lower layers, and those before 6.5 believe any option until the mount is made;
// mount(2) takes a page. Every folder is named by its descriptor's number below /proc/self/fd, so that a
// page holds as many layers as overlayfs allows (500), and no path needs escaping. The mount is made on
// the work folder, which is nobody's but the container's, cloned off it as a detached one and taken away.
func overlayByMount(lower [][]byte, upper, work []byte, opts [][]byte) (uintptr, *failure) {
	var fds []uintptr
	defer func() {
		for _, fd := range fds {
			closeFD(fd)
		}
	}()
	data := []byte("lowerdir=")
	name := func(path []byte) *failure {
		fd, e := openBytes(path, oPath|oDirectory)
		if e != 0 {
			return fail("root file system", string(path), e)
		}
		fds = append(fds, fd)
		data = append(data, itoa(int(fd))...)
		return nil
	}
	for i, dir := range lower {
		if i > 0 {
			data = append(data, ':')
		}
		if f := name(dir); f != nil {
			return none, f
		}
	}
	at := lower[len(lower)-1]
	if len(upper) > 0 {
		at = work
		data = append(data, ",upperdir="...)
		if f := name(upper); f != nil {
			return none, f
		}
		data = append(data, ",workdir="...)
		if f := name(work); f != nil {
			return none, f
		}
	}
	for _, o := range opts {
		data = append(append(data, ','), o...)
	}
	data = append(data, 0)
	if _, e := call(syscall.SYS_CHDIR, ptr(cstr("/proc/self/fd")), 0, 0); e != 0 {
		return none, fail("root file system", "/proc/self/fd", e)
	}
	overlay := cstr("overlay")
	if _, e := call6(syscall.SYS_MOUNT, ptr(overlay), ptr(at), ptr(overlay), 0, ptr(data), 0); e != 0 {
		return none, fail("root file system", cat("overlay on ", string(at)), e)
	}
	root, e := openTree(atFDCWD, at, treeClone)
	call(syscall.SYS_UMOUNT2, ptr(at), syscall.MNT_DETACH, 0)
	if e != 0 {
		return none, fail("root file system", string(at), e)
	}
	return root, nil
}

// kernelBefore reads the running kernel's release. One that cannot be read counts as old.
func kernelBefore(major, minor int) bool {
	var u syscall.Utsname
	if _, e := call(syscall.SYS_UNAME, uintptr(unsafe.Pointer(&u)), 0, 0); e != 0 {
		return true
	}
	var have [2]int
	part := 0
	for _, c := range u.Release {
		if c == '.' && part == 0 {
			part = 1
		} else if c >= '0' && c <= '9' {
			have[part] = have[part]*10 + int(c-'0')
		} else {
			break
		}
	}
	return have[0] < major || have[0] == major && have[1] < minor
}
