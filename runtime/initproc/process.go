//go:build linux

package initproc

import (
	"syscall"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/program"
)

const (
	prSetDumpable   = 4
	prSetTimerslack = 29
	defaultSlack    = 50_000 // ns, the kernel's
	prSetKeepCaps   = 8
	prCapbsetRead   = 23
	prCapbsetDrop   = 24
	prSetNoNewPrivs = 38
	prCapAmbient    = 47
	lastCap         = 40
	keyJoinSession  = 1
	sysSeccomp      = seccompNumber
)

const rlimitNofile = 7

type capSets struct {
	bounding, effective, permitted, inheritable, ambient, flags uint64
	set                                                         bool
}

func (m *machine) stepProcess(op program.Op, o *program.Reader) *failure {
	switch op {
	case program.OpSysctl:
		path, value := string(o.Str()), o.Str()
		if f := m.procWrite("sysctl", cat("sys/", path), value); f != nil {
			return f
		}
	case program.OpHostname:
		return named("hostname", syscall.SYS_SETHOSTNAME, o.Str())
	case program.OpDomainname:
		return named("domain name", syscall.SYS_SETDOMAINNAME, o.Str())
	case program.OpRlimit:
		return m.rlimit(o.Num(), o.Num(), o.Num())
	case program.OpOOMScore:
		value := o.Str()
		f := m.procWrite("oom_score_adj", cat(itoa(syscall.Getpid()), "/oom_score_adj"), value)
		if f != nil && f.stage == "oom_score_adj" && (f.errno == syscall.EACCES || f.errno == syscall.EPERM) {
			f.text = cat("oom score ", string(value), ": the host withholds CAP_SYS_RESOURCE, so the score cannot be lowered: ", f.errno.Error())
		}
		return f
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
	case program.OpLabel:
		return m.label(string(o.Str()), o.Str(), string(o.Str()))
	case program.OpUser:
		return m.user(o.Int(), o.Int(), o.List())
	case program.OpUserName:
		return m.userName(string(o.Str()), o.List())
	case program.OpCaps:
		m.caps = capSets{o.Num(), o.Num(), o.Num(), o.Num(), o.Num(), o.Num(), true}
		return m.bounding()
	case program.OpNoNewPrivs:
		if _, e := call6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); e != 0 {
			return fail("no_new_privs", "", e)
		}
	case program.OpSeccomp:
		return m.seccomp(o.Num(), o.Str())
	case program.OpCwd:
		return m.chdir(o.Str(), o.Num() != 0)
	case program.OpSetHome:
		m.setHome()
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

func (m *machine) rlimit(resource, soft, hard uint64) *failure {
	l := [2]uint64{soft, hard}
	_, e := call6(syscall.SYS_PRLIMIT64, 0, uintptr(resource), uintptr(unsafe.Pointer(&l)), 0, 0, 0)
	if e == syscall.EPERM {
		return failText("rlimit", itoa(int(resource)), e, cat("ulimit ", rlimitName(resource), ": the host withholds CAP_SYS_RESOURCE, so a hard limit cannot be raised: ", e.Error()))
	}
	if e != 0 {
		return fail("rlimit", rlimitName(resource), e)
	}
	if resource == rlimitNofile {
		m.nofile = 0 // as the configuration says
	}
	return nil
}

// restoreNofile takes back what Go's runtime did to the soft limit of descriptors, here and in the engine.
func (m *machine) restoreNofile() {
	if m.nofile == 0 {
		return
	}
	var l [2]uint64
	_, e := call6(syscall.SYS_PRLIMIT64, 0, rlimitNofile, 0, uintptr(unsafe.Pointer(&l)), 0, 0)
	if e == 0 && l[0] != m.nofile {
		l[0] = min(m.nofile, l[1])
		call6(syscall.SYS_PRLIMIT64, 0, rlimitNofile, uintptr(unsafe.Pointer(&l)), 0, 0, 0)
	}
}

func rlimitName(r uint64) string {
	names := [...]string{"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"}
	if r < uint64(len(names)) {
		return names[r]
	}
	return itoa(int(r))
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

// label writes a security label for the coming exec or for new keys.
func (m *machine) label(attr string, value []byte, fallback string) *failure {
	self := cat(itoa(syscall.Getpid()), "/attr/")
	f := m.procWrite("security label", cat(self, attr), value)
	if f != nil && fallback != "" && f.errno == syscall.ENOENT {
		f = m.procWrite("security label", cat(self, fallback), value)
	}
	if f != nil && (f.errno == syscall.EINVAL || f.errno == syscall.ENOENT) {
		what := "SELinux label"
		if fallback != "" {
			what = "AppArmor profile"
		}
		f.text = cat(what, " \"", string(value), "\": the kernel does not take it: either it knows no such one, or that security module is not enabled (", f.errno.Error(), ")")
	}
	return f
}

// chdir goes to the working directory and makes sure that it is inside the
// root: a leaked descriptor of the host must not become the way out (CVE-2024-21626).
func (m *machine) chdir(path []byte, create bool) *failure {
	_, e := call(syscall.SYS_CHDIR, ptr(path), 0, 0)
	if e == syscall.ENOENT && create {
		fd, e2 := m.root.makeDirAfter(string(path))
		if e2 != 0 {
			return fail("cwd", string(path), e2)
		}
		closeFD(fd)
		_, e = call(syscall.SYS_CHDIR, ptr(path), 0, 0)
	}
	if e == syscall.EACCES {
		m.cwd = path // again as the user
		return nil
	}
	if e != 0 {
		return failText("cwd", string(path), e, cat("chdir to cwd (\"", string(path), "\") set in config.json failed: ", e.Error()))
	}
	return insideRoot(string(path))
}

func insideRoot(path string) *failure {
	var buf [4096]byte
	n, e := call(syscall.SYS_GETCWD, ptr(buf[:]), uintptr(len(buf)), 0)
	if e != 0 || n == 0 || buf[0] != '/' {
		return failText("cwd", path, e, cat("the working directory ", path, " is outside the container's root: refusing to start"))
	}
	return nil
}

// seccomp loads the filter, and hands its listener to the parent if there is one.
func (m *machine) seccomp(flags uint64, filter []byte) *failure {
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
		e := m.sock.send(program.MsgNotify, nil, fd)
		closeFD(fd)
		if e == 0 {
			e = m.sock.await()
		}
		if e != 0 {
			return fail("seccomp", "handing over the listener", e)
		}
	}
	return nil
}
