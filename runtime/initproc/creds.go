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

const capVersion3 = 0x20080522

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

// bounding drops what is not asked for, and deals with what the host withholds.
func (m *machine) bounding() *failure {
	c := &m.caps
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
		m.sock.warn(cat("the host withholds ", capList(missing), " from the engine: the container runs without"))
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

// become takes on user, groups and capabilities; the last thing before no_new_privs and exec.
func (m *machine) user(uid, gid int, groups [][]byte) *failure {
	ids := make([]uint32, 0, len(groups)+1)
	for _, g := range groups {
		n, ok := atoi(string(g))
		if !ok {
			return failText("user", string(g), 0, cat("group ", string(g), " is not a number"))
		}
		ids = append(ids, uint32(n))
	}
	return m.become(uid, gid, ids)
}

func (m *machine) become(uid, gid int, groups []uint32) *failure {
	m.uid, m.gid = uid, gid
	call6(syscall.SYS_PRCTL, prSetKeepCaps, 1, 0, 0, 0, 0)
	var list uintptr
	if len(groups) > 0 {
		list = uintptr(unsafe.Pointer(&groups[0]))
	}
	if m.terminal && uid != 0 {
		call(syscall.SYS_FCHOWN, 0, uintptr(uid), ^uintptr(0))
	}
	if _, e := call(syscall.SYS_SETGROUPS, uintptr(len(groups)), list, 0); e != 0 && !(e == syscall.EPERM && (len(groups) == 0 || len(groups) == 1 && int(groups[0]) == gid)) {
		return fail("user", "setting groups", e)
	}
	if _, e := call(syscall.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); e != 0 {
		return fail("user", cat("gid ", itoa(gid)), e)
	}
	if _, e := call(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
		return fail("user", cat("uid ", itoa(uid)), e)
	}
	call6(syscall.SYS_PRCTL, prSetKeepCaps, 0, 0, 0, 0, 0)
	if m.cwd != nil {
		if _, e := call(syscall.SYS_CHDIR, ptr(m.cwd), 0, 0); e != 0 {
			return failText("cwd", string(m.cwd), e, cat("chdir to cwd (\"", string(m.cwd), "\") set in config.json failed: ", e.Error()))
		}
		if f := insideRoot(string(m.cwd)); f != nil {
			return f
		}
	}
	return m.setCaps()
}

func (m *machine) setCaps() *failure {
	c := &m.caps
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
			m.sock.warn(cat("ambient capability ", capList(1<<i), " cannot be raised: ", e.Error()))
		}
	}
	return nil
}
