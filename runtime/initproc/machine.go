//go:build linux

package initproc

import (
	"syscall"

	"github.com/gantry-engine/gantry/runtime/program"
)

// machine is the interpreter: it hands each instruction to the part whose job it is.
type machine struct {
	sock     socket // to the parent
	root     rootfs
	masks    masks
	proc     procfs
	limits   limits
	cwd      workdir
	accounts accounts
	user     user
	caps     capSets
	command  command
	terminal bool      // standard input, output and error are one, opened here
	next     successor // for OpStayInit
}

// run carries out the instructions.
func (m *machine) run(buf []byte) *failure {
	r := program.Reader{Buf: buf}
	if r.Num() != program.Version {
		return failText("init", "", 0, "gantry-init is of another version than the engine that started it")
	}
	return m.steps(&r)
}

// steps goes through what is left of the program, and returns only with a failure.
func (m *machine) steps(r *program.Reader) *failure {
	for {
		op, o := r.Next()
		if op == 0 {
			break
		}
		if op == program.OpStayInit {
			return m.again(r)
		}
		if op == program.OpStayed {
			return m.stayed(&o, r)
		}
		f := m.step(op, &o)
		if f == nil && o.Bad {
			f = failText("init", "", 0, "an instruction is cut short")
		}
		if f != nil {
			return f
		}
	}
	return failText("init", "", 0, "the program ends without executing anything")
}

// step carries out an instruction that needs what others left behind, or leaves something itself.
func (m *machine) step(op program.Op, o *program.Reader) *failure {
	switch op {
	case program.OpSysctl:
		path, value := string(o.Str()), o.Str()
		return m.proc.write("sysctl", cat("sys/", path), value)
	case program.OpOOMScore:
		return m.proc.oomScore(o.Str())
	case program.OpLabel:
		return m.proc.label(string(o.Str()), o.Str(), string(o.Str()))

	case program.OpRootOverlay:
		layers := overlay{o.List(), o.Str(), o.Str(), o.List(), o.Num() != 0}
		return layers.attach(&m.root)
	case program.OpRootBind:
		return m.root.bind(o.Str(), o.Num() != 0, o.Num() != 0)
	case program.OpRootReadonly:
		return m.root.readonly()
	case program.OpPivot:
		return m.root.pivot(o.Num())
	case program.OpMount:
		return mountNew(&m.root, o)
	case program.OpBind:
		return mountBind(&m.root, o)
	case program.OpMknod:
		return makeDevice(&m.root, o)
	case program.OpSymlink:
		return symlink(&m.root, o.Str(), o.Str())
	case program.OpMask:
		return m.masks.hide(&m.root, o.Str())
	case program.OpReadonly:
		return readonlyPath(&m.root, o.Str())
	case program.OpCwd:
		return m.cwd.enter(&m.root, o.Str(), o.Num() != 0)

	case program.OpTerminal:
		f := openTerminal(&m.root, &m.sock, o.Num(), o.Num(), o.Num())
		m.terminal = f == nil
		return f
	case program.OpHook:
		if e := m.sock.ask(program.MsgHook, []byte{byte(o.Num())}, none); e != 0 {
			return fail("hook", "", e)
		}
	case program.OpHookRun:
		h := hook{point: o.Int(), path: string(o.Str()), args: texts(o.List()), env: texts(o.List()), timeout: o.Int()}
		return h.run(m.sock.state)
	case program.OpSeccomp:
		return seccomp(&m.sock, o.Num(), o.Str())
	case program.OpGate:
		return m.sock.gate(o.Num() != 0)

	case program.OpRlimit:
		return m.limits.set(o.Num(), o.Num(), o.Num())
	case program.OpCaps:
		m.caps = capSets{o.Num(), o.Num(), o.Num(), o.Num(), o.Num(), o.Num(), true}
		return m.caps.confine(&m.sock)
	case program.OpUser:
		u, f := userByNumber(o.Int(), o.Int(), o.List())
		if f != nil {
			return f
		}
		return m.become(u)
	case program.OpUserName:
		u, f := m.accounts.user(string(o.Str()), o.List())
		if f != nil {
			return f
		}
		m.command.setHome(&u, &m.accounts)
		return m.become(u)

	case program.OpEnv:
		m.command.env = o.List()
	case program.OpArgs:
		m.command.args = o.List()
	case program.OpKeepFDs:
		m.command.keep = o.Int()
	case program.OpSetHome:
		m.command.setHome(&m.user, &m.accounts)
	case program.OpLookup:
		return m.command.lookup()
	case program.OpKeepSelf:
		if f := m.next.open(); f != nil || o.Num() == 0 {
			return f
		}
		return m.proc.open()
	case program.OpExec:
		return m.command.exec(&m.sock, &m.limits)

	default:
		return setting(op, o)
	}
	return nil
}

// become takes on user, groups and capabilities; the last thing before no_new_privs and exec.
func (m *machine) become(u user) *failure {
	m.user = u
	call6(syscall.SYS_PRCTL, prSetKeepCaps, 1, 0, 0, 0, 0)
	if m.terminal && u.uid != 0 {
		call(syscall.SYS_FCHOWN, 0, uintptr(u.uid), ^uintptr(0))
	}
	if f := u.takeIDs(); f != nil {
		return f
	}
	call6(syscall.SYS_PRCTL, prSetKeepCaps, 0, 0, 0, 0, 0)
	if f := m.cwd.enterLate(); f != nil {
		return f
	}
	return m.caps.apply(&m.sock)
}
