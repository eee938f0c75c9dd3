package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// box is a bundle with a busybox root and a state directory.
type box struct {
	t                  *testing.T
	bin, state, bundle string
	spec               *specs.Spec
}

func newBox(t *testing.T, command ...string) *box {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed")
	}
	b := &box{t: t, bin: filepath.Join(testkit.Bin(t), "gantry-runtime"), state: t.TempDir(), bundle: t.TempDir(), spec: defaultSpec()}
	dir := filepath.Join(b.bundle, "rootfs/bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "busybox"), text, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "sleep", "cat", "id", "pwd", "echo", "stty", "ls", "chmod", "touch", "true", "mknod"} {
		if err := os.Symlink("busybox", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	b.spec.Process.Terminal, b.spec.Process.Args = false, command
	b.spec.Root.Readonly = false
	t.Cleanup(b.nothingLeft)
	return b
}

// write saves the configuration.
func (b *box) write() {
	b.t.Helper()
	text, err := json.Marshal(b.spec)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.bundle, "config.json"), text, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// command is gantry-runtime with this box's state directory.
func (b *box) command(args ...string) *exec.Cmd {
	return exec.Command(b.bin, append([]string{"--root", b.state}, args...)...)
}

// run executes gantry-runtime; output goes through a file, because a detached process keeps it.
func (b *box) run(args ...string) (out string, code int) {
	b.t.Helper()
	return b.finish(b.command(args...))
}

func (b *box) finish(cmd *exec.Cmd) (out string, code int) {
	b.t.Helper()
	f, err := os.CreateTemp(b.t.TempDir(), "out")
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func (b *box) must(args ...string) string {
	b.t.Helper()
	out, code := b.run(args...)
	if code != 0 {
		b.t.Fatalf("%v: exit code %d: %s", args, code, out)
	}
	return out
}

func (b *box) up(id string) {
	b.t.Helper()
	b.write()
	b.t.Cleanup(func() { b.run("delete", "--force", id) })
	b.must("create", "--bundle", b.bundle, id)
	b.must("start", id)
}

func (b *box) status(id string) specs.State {
	b.t.Helper()
	var s specs.State
	if err := json.Unmarshal([]byte(b.must("state", id)), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// nothingLeft fails if a container of this box left a directory, a cgroup, a mount or a process behind.
func (b *box) nothingLeft() {
	b.t.Helper()
	entries, err := os.ReadDir(b.state)
	if err != nil {
		b.t.Error(err)
	}
	for _, e := range entries {
		b.t.Errorf("left in the state directory: %s", e.Name())
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*/gantry/", "/sys/fs/cgroup/gantry/"} {
		found, _ := filepath.Glob(pattern + name(b.t) + "*")
		for _, dir := range found {
			b.t.Errorf("left: cgroup %s", dir)
		}
	}
	tables, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, table := range tables {
		if text, err := os.ReadFile(table); err == nil && strings.Contains(string(text), b.bundle) {
			b.t.Errorf("left: %s shows a mount of the container: a process or a mount of the host", table)
		}
	}
}

func name(t *testing.T) string {
	return "test-" + strconv.Itoa(os.Getpid()) + "-" + strings.ToLower(t.Name())
}
