package e2e

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// shell is an environment to run clients in: a home of its own, and nothing of this process's but PATH.
type shell struct {
	t   *testing.T
	env map[string]string
	bin map[string]string // programs by name: gantry, docker (the official client), and ours under docker's name
}

func newShell(t *testing.T, env ...string) *shell {
	t.Helper()
	home := t.TempDir()
	s := &shell{t: t, env: map[string]string{"HOME": home, "PATH": os.Getenv("PATH"), "TERM": "xterm"}, bin: map[string]string{}}
	s.bin["gantry"] = filepath.Join(testkit.Bin(t), "gantry")
	s.bin["docker"] = "docker"
	s.bin["as-docker"] = filepath.Join(home, "docker")
	if err := os.Symlink(s.bin["gantry"], s.bin["as-docker"]); err != nil {
		t.Fatal(err)
	}
	return s.with(env...)
}

// with is the same with some variables changed (NAME=value) or taken away (NAME).
func (s *shell) with(env ...string) *shell {
	c := *s
	c.env = maps.Clone(s.env)
	for _, e := range env {
		if k, v, set := strings.Cut(e, "="); set {
			c.env[k] = v
		} else {
			delete(c.env, k)
		}
	}
	return &c
}

// at is the same, talking to an engine.
func (s *shell) at(e *testkit.Engine) *shell { return s.with("DOCKER_HOST=unix://" + e.Socket) }

func (s *shell) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(s.bin[program], args...)
	for _, k := range slices.Sorted(maps.Keys(s.env)) {
		cmd.Env = append(cmd.Env, k+"="+s.env[k])
	}
	return cmd
}

type result struct {
	out, err string
	code     int // 128+n for a client that died of signal n
}

func (s *shell) run(program string, args ...string) result {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd := s.command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return result{out.String(), errs.String(), status(s.t, err)}
}

func (s *shell) gantry(args ...string) result { s.t.Helper(); return s.run("gantry", args...) }

// must runs gantry, wants success and gives what it printed, trimmed.
func (s *shell) must(args ...string) string {
	s.t.Helper()
	r := s.gantry(args...)
	if r.code != 0 {
		s.t.Fatalf("gantry %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return strings.TrimSpace(r.out)
}

// wants checks an exit status and texts in the output.
func (s *shell) wants(code int, text string, args ...string) {
	s.t.Helper()
	r := s.gantry(args...)
	if r.code != code || !strings.Contains(r.out+r.err, text) {
		s.t.Errorf("gantry %s: exit %d, want %d with %q\n%s%s", strings.Join(args, " "), r.code, code, text, r.out, r.err)
	}
}

func status(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		t.Fatal(err)
	}
	return exitStatus(exit)
}
