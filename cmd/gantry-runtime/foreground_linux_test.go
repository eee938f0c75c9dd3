package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// session is gantry-runtime at a terminal of its own.
type session struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	cmd    *exec.Cmd
	lines  *bufio.Reader
}

func startSession(t *testing.T, cmd *exec.Cmd) *session {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	if err := pty.Setsize(master, &pty.Winsize{Rows: 31, Cols: 87}); err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &session{t: t, master: master, slave: slave, cmd: cmd, lines: bufio.NewReader(master)}
}

// expect reads lines up to one that has text.
func (s *session) expect(text string) {
	s.t.Helper()
	_ = s.master.SetReadDeadline(time.Now().Add(10 * time.Second))
	var seen strings.Builder
	for {
		line, err := s.lines.ReadString('\n')
		seen.WriteString(line)
		if strings.Contains(line, text) {
			return
		}
		if err != nil {
			s.t.Fatalf("no %q: %v, but %q", text, err, seen.String())
		}
	}
}

func (s *session) send(text string) {
	s.t.Helper()
	if _, err := s.master.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// raw tells whether the terminal hands every key through at once and prints none itself.
func (s *session) raw() bool {
	s.t.Helper()
	v, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return v.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0
}

func (s *session) end() int {
	s.t.Helper()
	_ = s.cmd.Wait()
	if s.raw() {
		s.t.Error("the caller's terminal was not given back as it was")
	}
	return s.cmd.ProcessState.ExitCode()
}

// shellTerminal is a program that shows its terminal, then one line typed, then a new size, then waits for ^C.
const shellTerminal = `test -t 0 && test -t 1 && echo terminal; stty size
read line; echo "read $line"
trap 'stty size' WINCH; trap 'echo interrupted; exit 11' INT
echo ready; while :; do sleep 0.05; done`

func (s *session) talk() {
	s.t.Helper()
	s.expect("terminal")
	s.expect("31 87")
	if !s.raw() {
		s.t.Error("the caller's terminal is not raw while the container has it")
	}
	s.send("some words\r")
	s.expect("read some words")
	s.expect("ready")
	if err := pty.Setsize(s.master, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(unix.SIGWINCH); err != nil {
		s.t.Fatal(err)
	}
	s.expect("40 100")
	s.send("\x03")
	s.expect("interrupted")
}

func TestRunAtATerminal(t *testing.T) {
	b := newBox(t, "sh", "-c", shellTerminal)
	b.spec.Process.Terminal = true
	b.write()
	s := startSession(t, b.command("run", "-b", b.bundle, name(t)))
	s.talk()
	if code := s.end(); code != 11 {
		t.Errorf("exit code %d", code)
	}
}

func TestExecAtATerminal(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	id := name(t)
	b.up(id)
	s := startSession(t, b.command("exec", "-t", id, "sh", "-c", shellTerminal))
	s.talk()
	if code := s.end(); code != 11 {
		t.Errorf("exit code %d", code)
	}
	for _, c := range [][]string{{"-d", "-t"}, {"--console-socket", "/x"}, {"-t", "--console-socket", "/x"}} {
		out, code := b.run(append(append([]string{"exec"}, c...), id, "true")...)
		if code != 255 || !strings.Contains(out, "console-socket") {
			t.Errorf("exec %v: code %d, %q", c, code, out)
		}
	}
}

func TestTerminalOnAPipe(t *testing.T) {
	b := newBox(t, "sh", "-c", "test -t 1 && echo one; echo two")
	b.spec.Process.Terminal = true
	b.write()
	if out, code := b.run("run", "-b", b.bundle, name(t)); out != "one\ntwo\n" || code != 0 {
		t.Errorf("code %d, %q", code, out)
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	b := newBox(t, "sh", "-c", "trap 'echo term; exit 9' TERM; trap 'echo usr' USR1; echo ready; while :; do sleep 0.05; done")
	b.write()
	id := name(t)
	for _, args := range [][]string{{"run", "-b", b.bundle, id}, {"run", "--no-subreaper", "-b", b.bundle, id}} {
		cmd := b.command(args...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for _, step := range []struct {
			line string
			sig  unix.Signal
		}{{"ready", unix.SIGUSR1}, {"usr", unix.SIGTERM}, {"term", 0}} {
			if !lines.Scan() || lines.Text() != step.line {
				t.Fatalf("%v: %q, not %q", args, lines.Text(), step.line)
			}
			if step.sig != 0 {
				if err := cmd.Process.Signal(step.sig); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 9 {
			t.Errorf("%v: code %d", args, code)
		}
	}
}

func TestExitCodes(t *testing.T) {
	b := newBox(t, "sh", "-c", "kill -KILL $$")
	b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[1:] // PID 1 of a namespace cannot kill itself
	b.write()
	id := name(t)
	if out, code := b.run("run", "-b", b.bundle, id); code != 128+9 {
		t.Errorf("killed: code %d, %q", code, out)
	}
	b.spec.Process.Args = []string{"nosuch"}
	b.write()
	if out, code := b.run("run", "-b", b.bundle, id); code != 1 || !strings.Contains(out, `exec: "nosuch": executable file not found in $PATH`) {
		t.Errorf("no such program: code %d, %q", code, out)
	}
	b.spec.Process.Args = []string{"sleep", "1000"}
	b.up(id)
	if out, code := b.run("exec", id, "nosuch"); code != 255 || !strings.Contains(out, "executable file not found in $PATH") {
		t.Errorf("exec of no such program: code %d, %q", code, out)
	}
	if out, code := b.run("exec", id, "sh", "-c", "kill -TERM $$"); code != 128+15 {
		t.Errorf("exec killed: code %d, %q", code, out)
	}
}

func TestKeepAndDetach(t *testing.T) {
	b := newBox(t, "sh", "-c", "exit 3")
	b.write()
	id := name(t)
	if out, code := b.run("run", "--keep", "-b", b.bundle, id); code != 3 {
		t.Fatalf("code %d, %q", code, out)
	}
	if s := b.status(id); s.Status != "stopped" || s.Pid != 0 {
		t.Errorf("kept: %+v", s)
	}
	b.must("delete", id)
	pidFile := filepath.Join(t.TempDir(), "pid")
	b.spec.Process.Args = []string{"sleep", "1000"}
	b.write()
	t.Cleanup(func() { b.run("delete", "--force", id) })
	b.must("run", "-d", "--pid-file", pidFile, "-b", b.bundle, id)
	text, err := os.ReadFile(pidFile)
	if s := b.status(id); err != nil || s.Status != "running" || string(text) != itoa(s.Pid) {
		t.Errorf("detached: %+v, pid file %q %v", s, text, err)
	}
}
