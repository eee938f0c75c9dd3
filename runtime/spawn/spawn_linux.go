//go:build linux && (amd64 || arm64)

package spawn

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime/nofile"
)

const atEmptyPath = unix.AT_EMPTY_PATH

// initEnv makes Go's runtime cheap in gantry-init: no collector, no preemption by signals, and no reading of
// /proc/self/mountinfo and cgroup files for the number of processors.
var initEnv = []string{"GOGC=off", "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1,containermaxprocs=0,updatemaxprocs=0"}

// Config is a process to be made. Descriptors stay the caller's.
type Config struct {
	Program []byte // what Compile gave
	Facts   Facts
	Init    *os.File // gantry-init, see MemFile

	// Stdio are the three standard descriptors; -1 leaves one closed until init opens the terminal.
	Stdio [3]int
	// Keep are further descriptors for the user's process, as 3, 4, …
	Keep []int
	// Gate is a pipe's end that init waits on before it executes the program, or -1.
	Gate int
	// Report is a pipe's writing end that takes over from Run once the gate has opened, for a starter that is
	// another process than the creator (ReadReport); 0 or -1 without.
	Report int
	// NetNS is a network namespace to enter, or -1.
	NetNS int
	// Joins are namespaces to enter, beside Facts.Joins.
	Joins []JoinFD
	// TargetPIDFD is the process whose Facts.TargetNamespaces are joined, or -1.
	TargetPIDFD int
}

// JoinFD is a namespace to enter by descriptor.
type JoinFD struct {
	Flag uint64
	FD   int
}

// Error is a launch that failed before the user's program ran.
type Error struct {
	Stage string // "cgroup", "namespace", "mount", "user", "cwd", "exec", …
	Path  string
	Errno syscall.Errno
	Text  string // the whole message
}

func (e *Error) Error() string { return e.Text }

// Unwrap gives the kernel's error number.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Process is a new process that waits for its program.
type Process struct {
	PID   int
	PIDFD int // the caller closes it
	sock  *os.File
	prog  []byte
	late  func() error // tells, once, why a child with a memory of its own failed, or nil
}

// Start clones gantry-init and returns as soon as it is executed and waits for
// its program. Follow with Run. A process that was handed out is the caller's to reap.
func Start(cfg *Config) (*Process, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, failed("socket", "", err)
	}
	defer unix.Close(pair[1])
	p := &Process{PIDFD: -1, prog: cfg.Program}
	opened := &closer{}
	defer opened.close()
	c, err := prepare(cfg, pair[1], opened)
	if err == nil {
		err = p.clone(cfg, c)
	}
	if err != nil {
		unix.Close(pair[0])
		if p.PID != 0 { // never handed out, so it is ours to reap
			_, _ = unix.Wait4(p.PID, nil, unix.WALL, nil)
			unix.Close(p.PIDFD)
		}
		return nil, err
	}
	_ = unix.SetNonblock(pair[0], true)
	p.sock = os.NewFile(uintptr(pair[0]), "gantry-init")
	return p, nil
}

type closer struct{ fds []int }

func (c *closer) add(fd int) int {
	c.fds = append(c.fds, fd)
	return fd
}

func (c *closer) open(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return c.add(fd), nil
}

func (c *closer) close() {
	for _, fd := range c.fds {
		unix.Close(fd)
	}
}

// prepare lays out the child's world before the clone.
func prepare(cfg *Config, sock int, opened *closer) (*child, error) {
	f := &cfg.Facts
	c := &child{mapsPipe: -1, init: int(cfg.Init.Fd()), out: new(outcome)}
	for _, path := range f.Tasks {
		fd, err := opened.open(path, unix.O_WRONLY)
		if err != nil {
			return nil, failed("cgroup", path, err)
		}
		c.tasks = append(c.tasks, fd)
	}
	if err := joins(cfg, c, opened); err != nil {
		return nil, err
	}
	flags := f.Namespaces &^ unix.CLONE_NEWTIME
	if f.Namespaces&unix.CLONE_NEWTIME != 0 {
		// Before Linux 6.2 an execution does not enter it, so the child does; it needs a memory of its own for that.
		c.ownMemory, c.time = true, &timens{
			offsets: append([]byte(f.TimeOffsets), 0), offsetsFile: append([]byte("/proc/self/timens_offsets"), 0),
			file: append([]byte("/proc/self/ns/time_for_children"), 0),
		}
	}
	joinsPID, joinsUser := false, false
	for _, j := range c.joins {
		joinsPID = joinsPID || j.flags&unix.CLONE_NEWPID != 0
		joinsUser = joinsUser || j.flags&unix.CLONE_NEWUSER != 0
	}
	newUser := flags&unix.CLONE_NEWUSER != 0
	c.asRoot = newUser || joinsUser
	c.twoStage = joinsPID || len(c.joins) > 0 && (newUser || joinsUser && flags != 0)
	final := &c.first
	if c.twoStage {
		c.first.flags = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_FILES
		final = &c.second
		final.flags |= unix.CLONE_PARENT
	}
	final.flags |= flags | unix.CLONE_PIDFD
	if c.twoStage {
		final.exitSignal = 0 // CLONE_PARENT: the caller's own, see clone
	} else {
		final.exitSignal = uint64(unix.SIGCHLD)
	}
	if !newUser && !c.ownMemory {
		final.flags |= unix.CLONE_VM | unix.CLONE_VFORK
	}
	if f.Cgroup2 != "" {
		fd, err := opened.open(f.Cgroup2, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, failed("cgroup", f.Cgroup2, err)
		}
		final.flags |= unix.CLONE_INTO_CGROUP
		final.cgroup = uint64(fd)
	}
	c.fds = append(c.fds, cfg.Stdio[:]...)
	c.fds = append(c.fds, cfg.Keep...)
	made, err := trees(f, opened)
	if err != nil {
		return nil, err
	}
	c.fds = append(c.fds, made...)
	if cfg.Report > 0 {
		c.fds = append(c.fds, cfg.Report)
	}
	sockNumber := len(c.fds)
	c.fds = append(c.fds, sock)
	if cfg.Gate >= 0 {
		c.fds = append(c.fds, cfg.Gate)
	}
	c.next = len(c.fds)
	if c.argv, err = cstrings("gantry-init", fmt.Sprintf("%d:%d", sockNumber, nofile.Original())); err != nil {
		return nil, err
	}
	if c.envp, err = cstrings(initEnv...); err != nil {
		return nil, err
	}
	c.empty = new(byte)
	return c, nil
}

// joins opens what is to be joined and puts it in order: a user namespace last,
// because the rights over the others may come from the namespace that is left.
func joins(cfg *Config, c *child, opened *closer) error {
	var user []setns
	add := func(fd int, flag uint64) {
		switch {
		case flag == unix.CLONE_NEWUSER:
			user = append(user, setns{uintptr(fd), uintptr(flag)})
		case flag == unix.CLONE_NEWTIME:
			c.late = append(c.late, setns{uintptr(fd), uintptr(flag)})
			c.ownMemory = true
		case flag == unix.CLONE_NEWCGROUP:
			c.late = append(c.late, setns{uintptr(fd), uintptr(flag)})
		default:
			c.joins = append(c.joins, setns{uintptr(fd), uintptr(flag)})
		}
	}
	if cfg.NetNS >= 0 {
		add(cfg.NetNS, unix.CLONE_NEWNET)
	}
	for _, j := range cfg.Joins {
		add(j.FD, j.Flag)
	}
	for _, j := range cfg.Facts.Joins {
		fd, err := opened.open(j.Path, unix.O_RDONLY)
		if err != nil {
			return failed("namespace", j.Path, err)
		}
		if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil {
			return failed("namespace", j.Path, fmt.Errorf("not a namespace: %w", err))
		} else if uint64(kind) != j.Flag {
			return failed("namespace", j.Path, errors.New("it is a namespace of another kind"))
		}
		add(fd, j.Flag)
	}
	if cfg.TargetPIDFD >= 0 {
		t := cfg.Facts.TargetNamespaces
		for _, late := range []uint64{unix.CLONE_NEWTIME, unix.CLONE_NEWCGROUP} {
			if t&late != 0 {
				add(cfg.TargetPIDFD, late)
				t &^= late
			}
		}
		if t != 0 {
			c.joins = append(c.joins, setns{uintptr(cfg.TargetPIDFD), uintptr(t)})
		}
	}
	c.joins = append(c.joins, user...)
	return nil
}

// clone does it, and writes the id maps where there are some.
func (p *Process) clone(cfg *Config, c *child) error {
	pidfd := int32(-1)
	final := &c.first
	if c.twoStage {
		final = &c.second
	}
	final.pidfd = uint64(uintptr(unsafe.Pointer(&pidfd)))
	shared := final.flags&unix.CLONE_VM != 0
	var release int = -1
	if final.flags&unix.CLONE_NEWUSER != 0 {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return failed("user namespace", "", err)
		}
		defer unix.Close(pipe[0])
		defer unix.Close(pipe[1])
		c.mapsPipe, release = pipe[0], pipe[1]
	}
	if !shared {
		page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
		if err != nil {
			return failed("clone", "", err)
		}
		c.out = (*outcome)(unsafe.Pointer(&page[0]))
		p.late = func() error {
			defer unix.Munmap(page)
			if c.out.stage == 0 {
				return nil
			}
			return childFailed(cfg, c)
		}
	}
	r := c.clone()
	afterFork()
	runtime.KeepAlive(&pidfd)
	if r > ^uintptr(4095) {
		return failed("clone", "", syscall.Errno(-r))
	}
	pid := int(r)
	if c.twoStage {
		_, _ = unix.Wait4(pid, nil, unix.WALL, nil) // the middle process, gone by now
		pid = int(c.secondPID)
	}
	p.PID, p.PIDFD = pid, int(pidfd)
	runtime.KeepAlive(c)
	if c.out.stage != 0 && (shared || pid == 0) {
		return childFailed(cfg, c)
	}
	if release >= 0 {
		if err := writeMaps(pid, &cfg.Facts); err != nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			return err
		}
		if _, err := unix.Write(release, []byte{1}); err != nil {
			return failed("user namespace", "", err)
		}
	}
	return nil
}

func childFailed(cfg *Config, c *child) error {
	switch e := c.out.errno; c.out.stage {
	case failCgroup:
		return failed("cgroup", cfg.Facts.Tasks[c.out.at], e)
	case failSetns:
		return failed("namespace", "joining "+kindsOf(append(c.joins, c.late...)[c.out.at].flags), e)
	case failClone:
		return failed("clone", "", e)
	case failTime:
		return failed("time namespace", "", e)
	case failMaps:
		return failed("user namespace", "waiting for its id maps", e)
	case failExec:
		return failed("init", "gantry-init", e)
	default:
		return failed("descriptors", "", e)
	}
}

// kinds are the namespaces by their names in /proc/<pid>/ns.
var kinds = []struct {
	name string
	flag uint64
}{
	{"user", unix.CLONE_NEWUSER}, {"mnt", unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET},
	{"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"cgroup", unix.CLONE_NEWCGROUP}, {"time", unix.CLONE_NEWTIME},
}

// KindFlag is the CLONE_NEW… flag of a namespace by its name in /proc/<pid>/ns, or 0.
func KindFlag(name string) uint64 {
	for _, k := range kinds {
		if k.name == name {
			return k.flag
		}
	}
	return 0
}

func kindsOf(flags uintptr) string {
	var names []string
	for _, k := range kinds {
		if uint64(flags)&k.flag != 0 {
			names = append(names, k.name)
		}
	}
	return strings.Join(names, ", ")
}

func writeMaps(pid int, f *Facts) error {
	dir := fmt.Sprintf("/proc/%d/", pid)
	if len(f.UIDMap) > 0 {
		if err := writeFile(dir+"uid_map", strings.Join(f.UIDMap, "\n")); err != nil {
			return failed("user namespace", "uid_map", err)
		}
	}
	if len(f.GIDMap) > 0 {
		if !f.Setgroups {
			_ = writeFile(dir+"setgroups", "deny")
		}
		if err := writeFile(dir+"gid_map", strings.Join(f.GIDMap, "\n")); err != nil {
			return failed("user namespace", "gid_map", err)
		}
	}
	return nil
}

func writeFile(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

func cstrings(list ...string) (**byte, error) {
	out := make([]*byte, 0, len(list)+1)
	for _, s := range list {
		b, err := unix.BytePtrFromString(s)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	out = append(out, nil)
	return &out[0], nil
}

func failed(stage, path string, err error) *Error {
	e := &Error{Stage: stage, Path: path, Text: stage + " " + path + ": " + err.Error()}
	if path == "" {
		e.Text = stage + ": " + err.Error()
	}
	errors.As(err, &e.Errno)
	return e
}
