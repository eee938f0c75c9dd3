//go:build linux

package initproc

import "syscall"

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
	setName()
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
	m := &machine{sock: socket{fd: uintptr(numbers[0])}, limits: limits{uint64(numbers[1])}, root: rootfs{fd: none, dir: none}, masks: masks{null: none, blank: none},
		next: successor{none, none}}
	m.proc = procfs{none, &m.root}
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

// setName is what ps shows of init: it was executed from a memory file, whose name the kernel would show.
func setName() {
	const prSetName = 15
	name := cstr("gantry-init")
	call(syscall.SYS_PRCTL, prSetName, ptr(name), 0)
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

func texts(l [][]byte) []string {
	s := make([]string, len(l))
	for i := range l {
		s[i] = string(l[i])
	}
	return s
}
