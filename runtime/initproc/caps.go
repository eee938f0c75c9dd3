//go:build linux

package initproc

import (
	"syscall"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/program"
)

type capHeader struct {
	version uint32
	pid     int32
}

type capData struct{ effective, permitted, inheritable uint32 }

const (
	capVersion3   = 0x20080522
	prCapbsetRead = 23
	prCapbsetDrop = 24
	prCapAmbient  = 47
	lastCap       = 40
)

// capSets are the capabilities that the program gets.
type capSets struct {
	bounding, effective, permitted, inheritable, ambient, flags uint64
	set                                                         bool
}

var capNames = [...]string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
	"SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
	"LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
	"PERFMON", "BPF", "CHECKPOINT_RESTORE"}

func capList(mask uint64) string {
	s := ""
	for i, n := range capNames {
		if mask&(1<<i) != 0 {
			if s != "" {
				s = cat(s, ", ")
			}
			s = cat(s, "CAP_", n)
		}
	}
	return s
}

// confine drops what is not asked for, and deals with what the host withholds.
func (c *capSets) confine(sock *socket) *failure {
	var hdr = capHeader{version: capVersion3}
	var have [2]capData
	if _, e := call(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&have)), 0); e != 0 {
		return fail("capabilities", "", e)
	}
	permitted := uint64(have[0].permitted) | uint64(have[1].permitted)<<32
	bound := c.bounding
	for i := uintptr(0); i <= lastCap; i++ {
		if c.bounding&(1<<i) != 0 && !inBounding(i) {
			bound &^= 1 << i
		}
	}
	missing := c.permitted&^permitted | c.bounding&^bound
	if missing != 0 {
		if c.flags&program.CapsDropMissing == 0 {
			return failText("capabilities", capList(missing), syscall.EPERM, cat("capabilities ", capList(missing), ": the host withholds them from the engine, so they cannot be given to a container"))
		}
		sock.warn(cat("the host withholds ", capList(missing), " from the engine: the container runs without"))
		c.bounding, c.permitted = c.bounding&^missing, c.permitted&^missing
		c.effective, c.inheritable, c.ambient = c.effective&^missing, c.inheritable&^missing, c.ambient&^missing
	}
	for i := uintptr(0); i <= lastCap; i++ {
		if c.bounding&(1<<i) != 0 {
			continue
		}
		_, e := call6(syscall.SYS_PRCTL, prCapbsetDrop, i, 0, 0, 0, 0)
		if e == syscall.EINVAL { // the kernel knows no more
			break
		}
		if e != 0 && inBounding(i) { // without the right to drop, what is gone already is fine
			return fail("capabilities", cat("dropping ", capList(1<<i)), e)
		}
	}
	return nil
}

func inBounding(i uintptr) bool {
	r, e := call6(syscall.SYS_PRCTL, prCapbsetRead, i, 0, 0, 0, 0)
	return e == 0 && r != 0
}

// apply gives them to this thread.
func (c *capSets) apply(sock *socket) *failure {
	if !c.set {
		return nil
	}
	hdr := capHeader{version: capVersion3}
	data := [2]capData{
		{uint32(c.effective), uint32(c.permitted), uint32(c.inheritable)},
		{uint32(c.effective >> 32), uint32(c.permitted >> 32), uint32(c.inheritable >> 32)},
	}
	if _, e := call(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data)), 0); e != 0 {
		return fail("capabilities", "", e)
	}
	call6(syscall.SYS_PRCTL, prCapAmbient, 4, 0, 0, 0, 0) // clear all
	for i := uintptr(0); i <= lastCap; i++ {
		if c.ambient&(1<<i) == 0 {
			continue
		}
		if _, e := call6(syscall.SYS_PRCTL, prCapAmbient, 2, i, 0, 0, 0); e != 0 {
			sock.warn(cat("ambient capability ", capList(1<<i), " cannot be raised: ", e.Error()))
		}
	}
	return nil
}
