//go:build linux

package initproc

import (
	"syscall"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/program"
)

const (
	devptsMagic = 0x1cd1
	tiocSCTTY   = 0x540e
	tiocSWINSZ  = 0x5414
	tiocGPTPeer = 0x5441
	tiocSPTLCK  = 0x40045431
)

// openTerminal takes a terminal from the container's own devpts and sends the master
// to the parent. The slave is had from the master itself, so that nothing that
// the container put at /dev/pts or /dev/console can take its place (CVE-2025-52565).
func openTerminal(root *rootfs, sock *socket, flags, rows, cols uint64) *failure {
	master, e := openat2(root.handle(), []byte("/dev/pts/ptmx\x00"), syscall.O_RDWR|syscall.O_NOCTTY, 0, resolveRoot)
	if e == syscall.ENOENT || e == syscall.EACCES {
		master, e = openat2(root.handle(), []byte("/dev/ptmx\x00"), syscall.O_RDWR|syscall.O_NOCTTY, 0, resolveRoot)
	}
	if e != 0 {
		return fail("terminal", "/dev/pts/ptmx", e)
	}
	defer closeFD(master)
	var st syscall.Statfs_t
	if _, e := call(syscall.SYS_FSTATFS, master, uintptr(unsafe.Pointer(&st)), 0); e != 0 || st.Type != devptsMagic {
		return failText("terminal", "/dev/pts/ptmx", e, "terminal: /dev/pts of the container is not a devpts file system")
	}
	var unlock int32
	call(syscall.SYS_IOCTL, master, tiocSPTLCK, uintptr(unsafe.Pointer(&unlock)))
	slave, e := call(syscall.SYS_IOCTL, master, tiocGPTPeer, syscall.O_RDWR|syscall.O_NOCTTY|oCloexec)
	if e != 0 {
		return fail("terminal", "opening the slave", e)
	}
	defer closeFD(slave)
	if rows|cols != 0 {
		size := [4]uint16{uint16(rows), uint16(cols)}
		call(syscall.SYS_IOCTL, master, tiocSWINSZ, uintptr(unsafe.Pointer(&size)))
	}
	if flags&program.TerminalConsole != 0 {
		if f := bindConsole(root, slave); f != nil {
			return f
		}
	}
	if e := sock.ask(program.MsgTerminal, nil, master); e != 0 {
		return fail("terminal", "handing over the master", e)
	}
	for fd := uintptr(0); fd < 3; fd++ {
		if _, e := call(syscall.SYS_DUP3, slave, fd, 0); e != 0 {
			return fail("terminal", "", e)
		}
	}
	call(syscall.SYS_SETSID, 0, 0, 0)
	if _, e := call(syscall.SYS_IOCTL, 0, tiocSCTTY, 0); e != 0 {
		return fail("terminal", "making it the controlling one", e)
	}
	return nil
}

// bindConsole puts the slave over the container's /dev/console.
func bindConsole(root *rootfs, slave uintptr) *failure {
	root.leaveDir()
	target, e := openat2(root.handle(), []byte("/dev/console\x00"), oPath|uint64(oNoFollow), 0, resolveRoot)
	if e == syscall.ENOENT {
		if e = root.makeOne("/dev", "console", true); e == 0 {
			target, e = openat2(root.handle(), []byte("/dev/console\x00"), oPath|uint64(oNoFollow), 0, resolveRoot)
		}
	}
	if e != 0 {
		return fail("console", "/dev/console", e)
	}
	defer closeFD(target)
	var st syscall.Stat_t
	if e := fstat(target, &st); e != 0 || st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		return failText("console", "/dev/console", e, "console: /dev/console is a link: refusing to follow it")
	}
	if inside, _ := onProc(target); inside {
		return failText("console", "/dev/console", syscall.EPERM, "console: /dev of the container leads into /proc: refusing to mount there")
	}
	tree, e := openTree(slave, nil, treeClone|atEmptyPath)
	if e != 0 {
		return fail("console", "/dev/console", e)
	}
	defer closeFD(tree)
	if e := moveMount(tree, target); e != 0 {
		return fail("console", "/dev/console", e)
	}
	return nil
}
