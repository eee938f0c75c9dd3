//go:build linux

package initproc

import (
	"syscall"

	"github.com/gantry-engine/gantry/runtime/program"
)

// machine is the interpreter's state.
type machine struct {
	sock     socket // to the parent
	root     rootfs
	masks    masks
	proc     uintptr // private procfs, or -1 until it is needed
	keep     int
	envText  [][]byte
	argText  [][]byte
	exe      []byte // zero-terminated path found by lookup
	uid, gid int
	home     string
	passwd   []byte
	readPw   bool
	self     uintptr // gantry-init's executable, for OpStayInit; or -1
	handOn   uintptr // a memory file for the program that OpStayInit hands on, or -1
	terminal bool
	caps     capSets
	cwd      []byte
	nofile   uint64 // soft limit of descriptors for the program; 0 leaves it
}

const none = ^uintptr(0)

// failure ends the interpreter.
type failure struct {
	stage, path string
	errno       errno
	text        string
}

func fail(stage, path string, e errno) *failure { return &failure{stage: stage, path: path, errno: e} }

func failText(stage, path string, e errno, text string) *failure {
	return &failure{stage, path, e, text}
}

// Main runs gantry-init. arg is the socket's number, a colon, and the soft limit of descriptors
// that the engine was started with (0 if unknown), and after OpStayInit a further colon and the number of
// the file with the rest of the program; or it is "hold". A parked init waits to be adopted before it
// reads its program. Main returns an exit code, if at all.
func Main(arg string, parked bool) int {
	if arg == "hold" {
		return hold()
	}
	var numbers [3]int
	given := fields(arg, ':')
	for i, text := range given {
		n, ok := 0, i < len(numbers)
		if ok {
			n, ok = atoi(text)
		}
		if !ok {
			return 127
		}
		numbers[i] = n
	}
	if len(given) < 2 {
		return 127
	}
	m := &machine{sock: socket{fd: uintptr(numbers[0])}, nofile: uint64(numbers[1]), root: rootfs{fd: none, dir: none}, masks: masks{null: none, blank: none},
		proc: none, self: none, handOn: none}
	cloexec(m.sock.fd)
	from := m.sock.fd
	if len(given) == 3 {
		from = uintptr(numbers[2])
		m.root.pivoted = true
		cloexec(from)
	} else {
		// Behind the socket and the gate nothing was meant for a container: what the engine leaked by
		// mistake must not be there when a working directory can name it (CVE-2024-21626).
		call(sysCloseRange, m.sock.fd+2, ^uintptr(0)>>32, 0)
	}
	if parked {
		f, ok := adopt(m.sock.fd)
		if !ok {
			return 127
		}
		if f != nil {
			m.sock.report(f)
			return 127
		}
	}
	buf, e := readProgram(from)
	if e != 0 {
		return 127
	}
	if f := m.run(buf); f != nil {
		m.sock.report(f)
		return 127
	}
	return 0
}

// hold stands in for a container's process while there is none: until standard input ends.
func hold() int {
	var b [1]byte
	for {
		if n, e := call(syscall.SYS_READ, 0, ptr(b[:]), 1); e != syscall.EINTR && n != 1 {
			return 0
		}
	}
}

func cloexec(fd uintptr) {
	syscall.RawSyscall(syscall.SYS_FCNTL, fd, syscall.F_SETFD, syscall.FD_CLOEXEC)
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

func (m *machine) step(op program.Op, o *program.Reader) *failure {
	switch {
	case op <= program.OpReadonly || op == program.OpPivot || op == program.OpKeepSelf || op == program.OpRootReadonly || op == program.OpRootFlags:
		return m.stepRoot(op, o)
	case op == program.OpHook || op == program.OpHookRun || op == program.OpGate || op == program.OpTerminal ||
		op == program.OpLookup || op == program.OpArgs || op == program.OpExec ||
		op == program.OpEnv || op == program.OpKeepFDs || op == program.OpSession:
		return m.stepLaunch(op, o)
	}
	return m.stepProcess(op, o)
}

func (m *machine) stepRoot(op program.Op, o *program.Reader) *failure {
	switch op {
	case program.OpKeepSelf:
		return m.keepSelf(o.Num() != 0)
	case program.OpUnshare:
		if _, e := call(syscall.SYS_UNSHARE, uintptr(o.Num()), 0, 0); e != 0 {
			return fail("namespace", "unshare", e)
		}
	case program.OpTimeOffsets:
		return m.procWrite("time namespace", cat(itoa(syscall.Getpid()), "/timens_offsets"), o.Str())
	case program.OpPropagation:
		return propagation(uintptr(o.Num()), uintptr(o.Num()))
	case program.OpRootOverlay:
		layers := overlay{o.List(), o.Str(), o.Str(), o.List(), o.Num() != 0}
		return layers.attach(&m.root)
	case program.OpRootBind:
		return m.root.bind(o.Str(), o.Num() != 0, o.Num() != 0)
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
	case program.OpPivot:
		return m.root.pivot(o.Num())
	case program.OpRootReadonly:
		return m.root.readonly()
	case program.OpRootFlags:
		return propagate("root propagation", uintptr(o.Num()))
	}
	return nil
}

func cat(parts ...string) string {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = append(b, p...)
	}
	return string(b)
}
