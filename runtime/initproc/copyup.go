//go:build linux

package initproc

import (
	"syscall"
	"unsafe"
)

const maxCopyDepth = 64

// copyTree copies a folder's content, without following links, into another.
func copyTree(from, to uintptr) errno { return copyLevel(from, to, 0) }

func copyLevel(from, to uintptr, depth int) errno {
	if depth > maxCopyDepth {
		return syscall.ELOOP
	}
	dot := []byte(".\x00")
	dir, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, from, ptr(dot), syscall.O_RDONLY|oDirectory|oCloexec, 0, 0, 0)
	if e != 0 {
		return e
	}
	defer closeFD(dir)
	var st syscall.Stat_t
	if e := fstat(dir, &st); e == 0 {
		out, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, to, ptr(dot), syscall.O_RDONLY|oDirectory|oCloexec, 0, 0, 0)
		if e != 0 {
			return e
		}
		call(syscall.SYS_FCHOWN, out, uintptr(st.Uid), uintptr(st.Gid))
		call(syscall.SYS_FCHMOD, out, uintptr(st.Mode&0o7777), 0)
		closeFD(out)
	}
	buf := make([]byte, 8192)
	for {
		n, e := call(syscall.SYS_GETDENTS64, dir, ptr(buf), uintptr(len(buf)))
		if e != 0 {
			return e
		}
		if n == 0 {
			return 0
		}
		for at := 0; at < int(n); {
			d := (*syscall.Dirent)(unsafe.Pointer(&buf[at]))
			name := (*[256]byte)(unsafe.Pointer(&d.Name))[:]
			at += int(d.Reclen)
			if name[0] == '.' && (name[1] == 0 || name[1] == '.' && name[2] == 0) {
				continue
			}
			if e := copyEntry(dir, to, name, depth); e != 0 {
				return e
			}
		}
	}
}

func copyEntry(from, to uintptr, name []byte, depth int) errno {
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, from, ptr(name), oPath|oNoFollow|oCloexec, 0, 0, 0)
	if e != 0 {
		return e
	}
	defer closeFD(fd)
	var st syscall.Stat_t
	if e := fstat(fd, &st); e != 0 {
		return e
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		if _, e := call(syscall.SYS_MKDIRAT, to, ptr(name), uintptr(st.Mode&0o7777)); ignoreExist(e) != 0 {
			return e
		}
		sub, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, to, ptr(name), oPath|oNoFollow|oDirectory|oCloexec, 0, 0, 0)
		if e != 0 {
			return e
		}
		defer closeFD(sub)
		return copyLevel(fd, sub, depth+1)
	case syscall.S_IFLNK:
		link := make([]byte, 4097)
		n, e := call6(syscall.SYS_READLINKAT, fd, ptr(nil), ptr(link), 4096, 0, 0)
		if e != 0 {
			return e
		}
		if _, e := call(syscall.SYS_SYMLINKAT, ptr(link[:n+1]), to, ptr(name)); e != 0 {
			return e
		}
	case syscall.S_IFREG:
		if e := copyFile(from, to, name, &st); e != 0 {
			return e
		}
	default:
		if _, e := call6(syscall.SYS_MKNODAT, to, ptr(name), uintptr(st.Mode), uintptr(st.Rdev), 0, 0); e != 0 {
			return e
		}
	}
	_, e = call6(syscall.SYS_FCHOWNAT, to, ptr(name), uintptr(st.Uid), uintptr(st.Gid), atNoFollow, 0)
	return e
}

func copyFile(from, to uintptr, name []byte, st *syscall.Stat_t) errno {
	in, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, from, ptr(name), syscall.O_RDONLY|oNoFollow|oCloexec, 0, 0, 0)
	if e != 0 {
		return e
	}
	defer closeFD(in)
	out, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, to, ptr(name), syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|oNoFollow|oCloexec, 0o600, 0, 0)
	if e != 0 {
		return e
	}
	defer closeFD(out)
	for {
		n, e := call6(syscall.SYS_SENDFILE, out, in, 0, 1<<20, 0, 0)
		if e != 0 {
			return e
		}
		if n == 0 {
			break
		}
	}
	call(syscall.SYS_FCHOWN, out, uintptr(st.Uid), uintptr(st.Gid))
	_, e = call(syscall.SYS_FCHMOD, out, uintptr(st.Mode&0o7777), 0)
	return e
}
