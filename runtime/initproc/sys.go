//go:build linux

package initproc

import (
	"syscall"
	"unsafe"
)

type errno = syscall.Errno

func ptr(b []byte) uintptr {
	if len(b) == 0 {
		return uintptr(unsafe.Pointer(&zeroByte))
	}
	return uintptr(unsafe.Pointer(&b[0]))
}

var zeroByte [8]byte

// cstr gives a zero-terminated copy, unless it is one already.
func cstr(s string) []byte {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return b
}

func call(n, a, b, c uintptr) (uintptr, errno) {
	r, _, e := syscall.RawSyscall(n, a, b, c)
	return r, e
}

func call6(n, a, b, c, d, e, f uintptr) (uintptr, errno) {
	r, _, err := syscall.RawSyscall6(n, a, b, c, d, e, f)
	return r, err
}

// The same numbers on every architecture (since Linux 5.0).
const (
	sysOpenTree     = 428
	sysMoveMount    = 429
	sysFsopen       = 430
	sysFsconfig     = 431
	sysFsmount      = 432
	sysCloseRange   = 436
	sysOpenat2      = 437
	sysMountSetattr = 442

	atFDCWD       = ^uintptr(99) // -100
	atEmptyPath   = 0x1000
	atRecursive   = 0x8000
	atNoFollow    = 0x100
	oPath         = 0x200000
	oCloexec      = 0x80000
	oDirectory    = syscall.O_DIRECTORY
	oNoFollow     = syscall.O_NOFOLLOW
	resolveBelow  = 0x08 | resolveSameFS | 0x04 // BENEATH, NO_XDEV, NO_SYMLINKS
	resolveSameFS = 0x01
	resolveRoot   = 0x10 | 0x02 // IN_ROOT, NO_MAGICLINKS

	resolveNoLinks  = 0x04
	resolveOneMount = 0x08 | 0x01 | 0x02 // BENEATH, NO_XDEV, NO_MAGICLINKS

	treeClone   = 1
	treeCloexec = oCloexec
	moveEmpty   = 0x04 | 0x40 // F_EMPTY_PATH, T_EMPTY_PATH

	fsSetFlag   = 0
	fsSetString = 1
	fsSetFD     = 5
	fsCreate    = 6

	attrRdonly = 1
	attrNosuid = 2
	attrNodev  = 4
	attrNoexec = 8
)

type openHow struct{ flags, mode, resolve uint64 }

func openat2(dir uintptr, path []byte, flags, mode, resolve uint64) (uintptr, errno) {
	how := openHow{flags | oCloexec, mode, resolve}
	for {
		fd, e := call6(sysOpenat2, dir, ptr(path), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
		if e != syscall.EAGAIN && e != syscall.EINTR {
			return fd, e
		}
	}
}

func open(path string, flags uintptr) (uintptr, errno) {
	b := cstr(path)
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, atFDCWD, ptr(b), flags|oCloexec, 0, 0, 0)
	return fd, e
}

func openBytes(path []byte, flags uintptr) (uintptr, errno) {
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, atFDCWD, ptr(path), flags|oCloexec, 0, 0, 0)
	return fd, e
}

func closeFD(fd uintptr) { syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0) }

func writeAll(fd uintptr, b []byte) errno {
	for len(b) > 0 {
		n, e := call(syscall.SYS_WRITE, fd, ptr(b), uintptr(len(b)))
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return e
		}
		b = b[n:]
	}
	return 0
}

func fstat(fd uintptr, st *syscall.Stat_t) errno {
	_, e := call(syscall.SYS_FSTAT, fd, uintptr(unsafe.Pointer(st)), 0)
	return e
}

// readAll reads a file of at most limit bytes.
func readAll(fd uintptr, limit int) ([]byte, errno) {
	buf := make([]byte, 0, 4096)
	for len(buf) < limit {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), 2*cap(buf))
			copy(grown, buf)
			buf = grown
		}
		room := buf[len(buf):cap(buf)]
		n, e := call(syscall.SYS_READ, fd, ptr(room), uintptr(len(room)))
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return nil, e
		}
		if n == 0 {
			break
		}
		buf = buf[:len(buf)+int(n)]
	}
	return buf, 0
}

type mountAttr struct{ set, clr, propagation, userns uint64 }

func setattr(fd uintptr, path []byte, flags uintptr, a *mountAttr) errno {
	_, e := call6(sysMountSetattr, fd, ptr(path), flags, uintptr(unsafe.Pointer(a)), unsafe.Sizeof(*a), 0)
	return e
}

func openTree(fd uintptr, path []byte, flags uintptr) (uintptr, errno) {
	return call(sysOpenTree, fd, ptr(path), flags|treeCloexec)
}

func moveMount(fd, target uintptr) errno {
	_, e := call6(sysMoveMount, fd, ptr(nil), target, ptr(nil), moveEmpty, 0)
	return e
}

func itoa(n int) string {
	if n == 0 {
		return "0"
	}
	neg := n < 0
	if neg {
		n = -n
	}
	var b [20]byte
	i := len(b)
	for ; n > 0; n /= 10 {
		i--
		b[i] = byte('0' + n%10)
	}
	if neg {
		i--
		b[i] = '-'
	}
	return string(b[i:])
}

// atoi reads a decimal number; ok is false for anything else.
func atoi(s string) (n int, ok bool) {
	if s == "" || len(s) > 10 {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}
