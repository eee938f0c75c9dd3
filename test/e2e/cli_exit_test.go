package e2e

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func exitStatus(e *exec.ExitError) int {
	if ws, ok := e.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return e.ExitCode()
}

// What a shell script sees of run, exec, start, attach and wait.
func TestCLIExitCodes(t *testing.T) {
	e := engine(t)
	s := newShell(t).at(e)
	for _, c := range []struct {
		code int
		text string
		args []string
	}{
		{3, "", []string{"run", "--rm", "bb", "sh", "-c", "exit 3"}},
		{137, "", []string{"run", "--rm", "--init", "bb", "sh", "-c", "kill -9 $$"}},
		{125, "unknown flag: --nope", []string{"run", "--nope", "bb"}},
		{125, "Minimum memory limit", []string{"run", "-m", "1", "bb"}},
		{125, "No such image", []string{"run", "--pull", "never", "nosuch", "true"}},
		{126, "is a directory", []string{"run", "--rm", "bb", "/etc"}},
		{126, "permission denied", []string{"run", "--rm", "bb", "/etc/passwd"}},
		{127, "executable file not found", []string{"run", "--rm", "bb", "nosuch"}},
		{127, "no such file or directory", []string{"run", "--rm", "bb", "/nosuch"}},
		{127, "executable file not found", []string{"run", "-d", "--rm", "bb", "nosuch"}},
		{1, "requires at least 1 argument", []string{"run"}},
		{1, "unknown command", []string{"nosuch"}},
		{125, "unknown flag", []string{"ps", "--nosuch"}},
		{1, "No such container", []string{"stop", "nosuch"}},
	} {
		s.wants(c.code, c.text, c.args...)
	}
	s.must("run", "-d", "--name", "box", "bb", "sleep", "1000")
	s.wants(125, "already in use", "run", "--name", "box", "bb")
	s.wants(5, "", "exec", "box", "sh", "-c", "exit 5")
	s.wants(143, "", "exec", "box", "sh", "-c", "kill -TERM $$")
	s.wants(126, "permission denied", "exec", "box", "/etc/passwd")
	s.wants(127, "executable file not found", "exec", "box", "nosuch")
	s.wants(127, "", "exec", "-d", "box", "nosuch")
	s.wants(1, "No such container", "exec", "nosuch", "true")
	s.must("kill", "box")
	s.wants(0, "137", "wait", "box")
	s.wants(1, "start it first", "attach", "box")

	s.must("create", "--name", "seven", "bb", "sh", "-c", "echo out; echo err >&2; exit 7")
	if r := s.gantry("start", "-a", "seven"); r.code != 7 || r.out != "out\n" || r.err != "err\n" {
		t.Errorf("start -a: %+v", r)
	}
	// The pause lets the program that says go end by itself, before its container takes it along.
	s.must("run", "-d", "--name", "nine", "bb", "sh", "-c", "while [ ! -e /go ]; do sleep 0.01; done; echo gone; sleep 0.5; exit 9")
	attached := s.command("gantry", "attach", "nine")
	if err := attached.Start(); err != nil {
		t.Fatal(err)
	}
	s.must("exec", "nine", "touch", "/go")
	if code := status(t, attached.Wait()); code != 9 {
		t.Errorf("attach: exit %d, want 9", code)
	}

	gone := newShell(t, "DOCKER_HOST=unix://"+filepath.Join(t.TempDir(), "nothing"))
	gone.wants(125, "Cannot connect to the Gantry daemon", "run", "bb", "true")
	gone.wants(1, "Cannot connect to the Gantry daemon", "exec", "box", "true")
	gone.wants(1, "Cannot connect to the Gantry daemon", "ps")
}
