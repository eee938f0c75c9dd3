package runtime_test

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

// background starts a container that stays until the test ends.
func background(t *testing.T, init *os.File, s *specs.Spec) *spawn.Process {
	t.Helper()
	p, err := runtime.Compile(s, runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	proc, err := runtime.Start(p, runtime.Files{Init: init}, spawn.Handler{})
	if proc != nil {
		t.Cleanup(func() {
			_ = unix.PidfdSendSignal(proc.PIDFD, unix.SIGKILL, nil, 0)
			_, _ = unix.Wait4(proc.PID, nil, 0, nil)
			unix.Close(proc.PIDFD)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return proc
}

// execIn runs a further process in a container and gives its output and exit code.
func execIn(t *testing.T, init *os.File, target int, namespaces uint64, s *specs.Spec) (string, int, error) {
	t.Helper()
	p, err := runtime.Compile(s, runtime.Options{Exec: true, TargetNamespaces: namespaces})
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	proc, err := spawn.Start(&spawn.Config{Program: p.Init, Facts: p.Facts, Init: init, Gate: -1, NetNS: -1, TargetPIDFD: target,
		Stdio: [3]int{int(w.Fd()), int(w.Fd()), int(w.Fd())}})
	w.Close()
	if err != nil {
		return "", -1, err
	}
	err = proc.Run(spawn.Handler{})
	var b bytes.Buffer
	_, _ = io.Copy(&b, r)
	var st unix.WaitStatus
	_, _ = unix.Wait4(proc.PID, &st, 0, nil)
	unix.Close(proc.PIDFD)
	return b.String(), st.ExitStatus(), err
}

const show = `hostname; for n in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$n; done`

// An exec process is in every namespace of its container, and a failure there is told.
func TestExecJoinsEverything(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "sleep", "1000")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "cgroup"})
	target := background(t, init, s)
	flags := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP)
	out, code, err := execIn(t, init, target.PIDFD, flags, configuration(t, root, "sh", "-c", show+"; grep -c sleep /proc/1/cmdline; exit 9"))
	if err != nil || code != 9 {
		t.Fatalf("code %d, error %v\n%s", code, err, out)
	}
	want := "box\n"
	for _, n := range []string{"mnt", "pid", "uts", "ipc", "net", "cgroup"} {
		link, err := os.Readlink("/proc/" + strconv.Itoa(target.PID) + "/ns/" + n)
		if err != nil {
			t.Fatal(err)
		}
		want += link + "\n"
	}
	if out != want+"1\n" {
		t.Errorf("output\n%swant\n%s1", out, want)
	}
	if _, _, err := execIn(t, init, target.PIDFD, flags, configuration(t, root, "nosuch")); err == nil || !strings.Contains(err.Error(), "executable file not found") {
		t.Errorf("error %v", err)
	}
}

// Clocks of a time namespace are shifted for the program itself, not only for its children.
func TestTimeOffsets(t *testing.T) {
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		t.Skip("the kernel has no time namespaces")
	}
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "sh", "-c", "cat /proc/uptime; cat /proc/self/timens_offsets")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "time"})
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 10_000_000}, "monotonic": {Secs: 777}}
	res := run(t, init, s, runtime.Options{})
	f := strings.Fields(res.out)
	if res.err != nil || len(f) < 2 || len(strings.Split(f[0], ".")[0]) < 8 || !strings.Contains(res.out, " 777 ") {
		t.Errorf("error %v, output %q", res.err, res.out)
	}
}

// The program of a container with a terminal has it as its controlling terminal, at the given size.
func TestTerminal(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "sh", "-c", "test -t 0 && test -t 1 && test -c /dev/console && echo yes >/dev/tty")
	s.Process.Terminal = true
	s.Process.ConsoleSize = &specs.Box{Height: 33, Width: 99}
	p, err := runtime.Compile(s, runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var master *os.File
	var size *unix.Winsize
	proc, err := runtime.Start(p, runtime.Files{Init: init}, spawn.Handler{Terminal: func(fd int) (err error) {
		master = os.NewFile(uintptr(fd), "ptmx")
		size, err = unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(proc.PIDFD)
	defer master.Close()
	out, _ := io.ReadAll(master) // ends with EIO when the last user of the terminal is gone
	_, _ = unix.Wait4(proc.PID, nil, 0, nil)
	if string(out) != "yes\r\n" || size.Row != 33 || size.Col != 99 {
		t.Errorf("output %q, size %+v", out, size)
	}
}
