package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// typist sits at a terminal in which a client runs.
type typist struct {
	t    *testing.T
	tty  *os.File // the program's side, kept open so that its settings can be read afterwards
	keys *os.File
	cmd  *exec.Cmd
	old  unix.Termios

	mu   sync.Mutex
	seen bytes.Buffer
}

// sit starts a client at a new terminal of 80 columns and 24 rows.
func (s *shell) sit(program string, args ...string) *typist {
	s.t.Helper()
	keys, tty, err := pty.Open()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := pty.Setsize(keys, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		s.t.Fatal(err)
	}
	p := &typist{t: s.t, tty: tty, keys: keys, cmd: s.command(program, args...)}
	p.old = p.settings()
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := keys.Read(buf)
			p.mu.Lock()
			p.seen.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	s.t.Cleanup(func() { _ = p.cmd.Process.Kill(); tty.Close(); keys.Close() })
	return p
}

func (p *typist) settings() unix.Termios {
	p.t.Helper()
	st, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return *st
}

func (p *typist) screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

// sees waits until a text is on the screen.
func (p *typist) sees(text string) {
	p.t.Helper()
	if !eventually(func() bool { return strings.Contains(p.screen(), text) }) {
		p.t.Fatalf("%v: %q is not on the screen:\n%q", p.cmd.Args[1:], text, p.screen())
	}
}

func (p *typist) types(keys string) {
	p.t.Helper()
	if _, err := p.keys.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// leaves waits for the client's end, and wants the terminal as it was before.
func (p *typist) leaves(code int, text string) {
	p.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if got := status(p.t, err); got != code {
			p.t.Errorf("%v: exit %d, want %d\n%s", p.cmd.Args[1:], got, code, p.screen())
		}
	case <-time.After(20 * time.Second):
		p.t.Fatalf("%v does not end:\n%s", p.cmd.Args[1:], p.screen())
	}
	if text != "" {
		p.sees(text)
	}
	if now := p.settings(); now != p.old {
		p.t.Errorf("%v left the terminal with other settings: %+v, before %+v", p.cmd.Args[1:], now, p.old)
	}
}

func eventually(ok func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// running says whether a container runs.
func (s *shell) running(name string) bool {
	s.t.Helper()
	return s.must("inspect", "-f", "{{.State.Running}}", name) == "true"
}

// Detaching: which keys, what is said, the status, and the container that runs on. The official client does the same.
func TestCLIDetach(t *testing.T) {
	e := engine(t)
	cat := []string{"bb", "sh", "-c", "echo ready; exec cat"}
	for _, program := range []string{"gantry", "docker"} {
		for _, c := range []struct {
			name, keys, config string
			flag               []string
		}{
			{"default", "\x10\x11", "", nil},
			{"flag", "\x18x@", "", []string{"--detach-keys", "ctrl-x,x,@"}},
			{"config", "\x01d", `{"detachKeys":"ctrl-a,d"}`, nil},
			{"flag before config", "\x1d", `{"detachKeys":"ctrl-a,d"}`, []string{"--detach-keys", "ctrl-]"}},
		} {
			t.Run(program+" "+c.name, func(t *testing.T) {
				s := newShell(t).at(e)
				if c.config != "" {
					dir := t.TempDir()
					if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(c.config), 0o600); err != nil {
						t.Fatal(err)
					}
					s = s.with("DOCKER_CONFIG=" + dir)
				}
				name := program + "-" + strings.ReplaceAll(c.name, " ", "-")
				run := s.sit(program, append(append([]string{"run", "-it", "--name", name}, c.flag...), cat...)...)
				run.sees("ready")
				run.types("one\r")
				run.sees("one\r\none") // echoed by the container's terminal, and by cat
				run.types(c.keys)
				run.leaves(0, "")
				attach := s.sit(program, append(append([]string{"attach"}, c.flag...), name)...)
				attach.types("two\r")
				attach.sees("two\r\ntwo")
				attach.types(c.keys)
				attach.leaves(1, "read escape sequence")
				ex := s.sit(program, append(append([]string{"exec", "-it"}, c.flag...), name, "sh", "-c", "echo ready; exec cat")...)
				ex.sees("ready")
				ex.types(c.keys)
				ex.leaves(1, "read escape sequence")
				if !s.running(name) {
					t.Error("the container ended with its clients")
				}
				start := s.sit(program, append(append([]string{"start", "-ai"}, c.flag...), name)...) // running already: attaches
				start.types("three\r")
				start.sees("three\r\nthree")
				start.types(c.keys)
				start.leaves(0, "")
				s.must("rm", "-f", name)
			})
		}
	}
	s := newShell(t).at(e)
	s.wants(125, "", "run", "-d", "--detach-keys", "ctrl-", "--nosuch", "bb")
}

// The terminal: raw while the container has it, as before afterwards, and the right size all the time.
func TestCLITerminal(t *testing.T) {
	e := engine(t)
	s := newShell(t).at(e)
	p := s.sit("gantry", "run", "--rm", "-it", "bb", "sh", "-c", `stty size; trap 'echo size is $(stty size)' WINCH; while [ ! -e /end ]; do read -t 0.1 x && [ "$x" = end ] && exit 6; done`)
	p.sees("24 80")
	if raw := p.settings(); raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Errorf("the terminal is not raw: %+v", raw)
	}
	if err := pty.Setsize(p.keys, &pty.Winsize{Rows: 33, Cols: 111}); err != nil {
		t.Fatal(err)
	}
	p.sees("size is 33 111")
	p.types("end\r")
	p.leaves(6, "")

	s.must("run", "-d", "--name", "box", "bb", "sleep", "1000")
	ex := s.sit("gantry", "exec", "-it", "box", "sh", "-c", "stty size; trap 'echo size is $(stty size)' WINCH; while :; do sleep 0.05; done")
	ex.sees("24 80")
	if err := pty.Setsize(ex.keys, &pty.Winsize{Rows: 10, Cols: 20}); err != nil {
		t.Fatal(err)
	}
	ex.sees("size is 10 20")
	ex.types("\x03") // not for the client: the shell in there gets it
	ex.leaves(130, "")

	// Neither a command that is not there nor an engine that goes away leaves a raw terminal.
	s.sit("gantry", "run", "--rm", "-it", "bb", "nosuch").leaves(127, "executable file not found")
	s.sit("gantry", "exec", "-it", "box", "nosuch").leaves(127, "executable file not found")
	killed := s.sit("gantry", "run", "-it", "--name", "killed", "bb", "sh", "-c", "echo ready; exec sleep 1000")
	killed.sees("ready")
	s.must("kill", "killed")
	killed.leaves(137, "")
	left := s.sit("gantry", "attach", s.must("run", "-dit", "bb", "cat"))
	left.types("x\r")
	left.sees("x\r\nx")
	e.Kill()
	left.leaves(1, "unexpected EOF")
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	if r := s.gantry("run", "--rm", "-it", "bb", "true"); r.code != 1 || !strings.Contains(r.err, "the input device is not a TTY") {
		t.Errorf("-t without a terminal: %+v", r)
	}
}

// background is a client without a terminal, that signals can be sent to. sees waits for a text in its output, calling
// pokes again and again.
func (s *shell) background(args ...string) (cmd *exec.Cmd, sees func(text string, pokes ...func())) {
	s.t.Helper()
	var mu sync.Mutex
	var out bytes.Buffer
	cmd = s.command("gantry", args...)
	cmd.Stdout = writer(func(b []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return out.Write(b) })
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, func(text string, pokes ...func()) {
		s.t.Helper()
		seen := func() string { mu.Lock(); defer mu.Unlock(); return out.String() }
		if !eventually(func() bool {
			for _, poke := range pokes {
				poke()
			}
			return strings.Contains(seen(), text)
		}) {
			s.t.Fatalf("gantry %v: %q is not in %q", args, text, seen())
		}
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestCLISignals(t *testing.T) {
	e := engine(t)
	s := newShell(t).at(e)
	traps := `for s in TERM INT HUP USR1 USR2 QUIT ALRM CONT; do trap "echo got $s" $s; done; trap 'exit 42' WINCH; trap 'exit 41' USR2; echo ready; while :; do sleep 0.02; done`
	cmd, sees := s.background("run", "--rm", "bb", "sh", "-c", traps)
	sees("ready")
	for name, sig := range map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "QUIT": syscall.SIGQUIT} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		sees("got " + name)
	}
	time.Sleep(200 * time.Millisecond) // the less usual ones, once a command lasts
	for name, sig := range map[string]syscall.Signal{"ALRM": syscall.SIGALRM, "CONT": syscall.SIGCONT} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		sees("got " + name)
	}
	_ = cmd.Process.Signal(syscall.SIGWINCH) // ours: nobody means a window's size by it
	_ = cmd.Process.Signal(syscall.SIGUSR2)
	if code := status(t, cmd.Wait()); code != 41 {
		t.Errorf("exit %d, want 41", code)
	}

	usr1 := func() { s.must("kill", "-s", "USR1", "box") }
	// Without the proxy a signal is the client's, and the container goes on.
	for _, how := range [][]string{{"run", "--sig-proxy=false", "--name", "box", "bb", "sh", "-c", traps}, {"attach", "--sig-proxy=false", "box"}, {"attach", "--sig-proxy=false", "--no-stdin", "box"}} {
		cmd, sees := s.background(how...)
		if how[0] == "run" {
			sees("ready")
		} else {
			sees("got USR1", usr1) // until the client is attached nobody hears it
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if code := status(t, cmd.Wait()); code != 143 {
			t.Errorf("%v: exit %d, want 143", how, code)
		}
		if !s.running("box") {
			t.Fatalf("%v: the container got the client's signal", how)
		}
	}
	cmd, sees = s.background("attach", "box")
	sees("got USR1", usr1)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	sees("got TERM")
	s.must("kill", "box")
	if code := status(t, cmd.Wait()); code != 137 {
		t.Errorf("attach: exit %d, want 137", code)
	}
}
