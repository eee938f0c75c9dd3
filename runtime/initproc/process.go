//go:build linux

package initproc

import (
	"syscall"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/program"
)

const (
	prSetDumpable   = 4
	prSetNoNewPrivs = 38
	keyJoinSession  = 1
	sysSeccomp      = seccompNumber
)

// setting carries out an instruction that is a system call on this process and nothing else.
func setting(op program.Op, o *program.Reader) *failure {
	switch op {
	case program.OpUnshare:
		if _, e := call(syscall.SYS_UNSHARE, uintptr(o.Num()), 0, 0); e != 0 {
			return fail("namespace", "unshare", e)
		}
	case program.OpPropagation:
		return propagation(uintptr(o.Num()), uintptr(o.Num()))
	case program.OpRootFlags:
		return propagate("root propagation", uintptr(o.Num()))
	case program.OpSession:
		if _, e := call(syscall.SYS_SETSID, 0, 0, 0); e != 0 && e != syscall.EPERM {
			return fail("session", "", e)
		}
	case program.OpHostname:
		return named("hostname", syscall.SYS_SETHOSTNAME, o.Str())
	case program.OpDomainname:
		return named("domain name", syscall.SYS_SETDOMAINNAME, o.Str())
	case program.OpKeyring:
		if _, e := call6(keyctlNumber, keyJoinSession, ptr(o.Str()), 0, 0, 0, 0); e != 0 && e != syscall.ENOSYS {
			return failText("session keyring", "", e, cat("session keyring: ", e.Error()))
		}
	case program.OpUmask:
		call(syscall.SYS_UMASK, uintptr(o.Num()), 0, 0)
	case program.OpPersonality:
		if _, e := call(syscall.SYS_PERSONALITY, uintptr(o.Num()), 0, 0); e != 0 {
			return fail("personality", "", e)
		}
	case program.OpScheduler:
		return scheduler(o)
	case program.OpIOPriority:
		if _, e := call(syscall.SYS_IOPRIO_SET, 1, 0, uintptr(o.Num())); e != 0 {
			return fail("io priority", "", e)
		}
	case program.OpNoNewPrivs:
		if _, e := call6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); e != 0 {
			return fail("no_new_privs", "", e)
		}
	case program.OpHideProc:
		call6(syscall.SYS_PRCTL, prSetDumpable, 0, 0, 0, 0, 0)
	case program.OpCPUAffinity:
		mask := o.Str()
		if _, e := call(syscall.SYS_SCHED_SETAFFINITY, 0, uintptr(len(mask)), ptr(mask)); e != 0 {
			return fail("cpu affinity", "", e)
		}
	case program.OpMemoryPolicy:
		mode, flags, nodes := o.Num(), o.Num(), o.Str()
		if _, e := call(syscall.SYS_SET_MEMPOLICY, uintptr(mode|flags), ptr(nodes), uintptr(len(nodes)*8)); e != 0 {
			return fail("memory policy", "", e)
		}
	default:
		return failText("init", "", 0, cat("gantry-init does not know instruction ", itoa(int(op))))
	}
	return nil
}

func named(stage string, number uintptr, name []byte) *failure {
	if _, e := call(number, ptr(name), uintptr(len(name)), 0); e != 0 {
		return fail(stage, string(name), e)
	}
	return nil
}

type schedAttr struct {
	size, policy              uint32
	flags                     uint64
	nice                      int32
	priority                  uint32
	runtime, deadline, period uint64
	utilMin, utilMax          uint32
}

func scheduler(o *program.Reader) *failure {
	a := schedAttr{policy: uint32(o.Num()), flags: o.Num(), nice: int32(o.Num()), priority: uint32(o.Num()), runtime: o.Num(), deadline: o.Num(), period: o.Num()}
	a.size = uint32(unsafe.Sizeof(a))
	if _, e := call(schedSetattrNumber, 0, uintptr(unsafe.Pointer(&a)), 0); e != 0 {
		return fail("scheduler", "", e)
	}
	return nil
}

// seccomp loads the filter, and hands its listener to the parent if there is one.
func seccomp(sock *socket, flags uint64, filter []byte) *failure {
	prog := struct {
		n   uint16
		ptr *byte
	}{n: uint16(len(filter) / 8)}
	aligned := make([]uint64, len(filter)/8)
	if len(aligned) == 0 {
		return nil
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&aligned[0])), len(filter)), filter)
	prog.ptr = (*byte)(unsafe.Pointer(&aligned[0]))
	fd, e := call(sysSeccomp, 1, uintptr(uint32(flags)), uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return fail("seccomp", "loading the filter", e)
	}
	if flags&program.SeccompNotify != 0 {
		e := sock.send(program.MsgNotify, nil, fd)
		closeFD(fd)
		if e == 0 {
			e = sock.await()
		}
		if e != 0 {
			return fail("seccomp", "handing over the listener", e)
		}
	}
	return nil
}
