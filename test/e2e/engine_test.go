package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// engine starts gantryd with the image bb loaded.
func engine(t *testing.T, args ...string) *testkit.Engine {
	t.Helper()
	e := testkit.Start(t, testkit.Options{Args: args})
	load(t, e)
	return e
}

func load(t *testing.T, e *testkit.Engine) {
	t.Helper()
	archive := filepath.Join(e.Dir, "bb.tar")
	if err := imagemaker.WriteBusybox(archive, "bb:latest"); err != nil {
		t.Fatal(err)
	}
	e.Must(t, "load", "-q", "-i", archive)
}

// fails runs the client and wants the exit code and every one of the texts in its output.
func fails(t *testing.T, e *testkit.Engine, code int, texts []string, args ...string) {
	t.Helper()
	out, errs, got := e.Docker(args...)
	if got != code {
		t.Errorf("docker %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errs)
	}
	for _, text := range texts {
		if !strings.Contains(out+errs, text) {
			t.Errorf("docker %s: %q is not in\n%s%s", strings.Join(args, " "), text, out, errs)
		}
	}
}

// The first run, exactly as `make run` does it.
func TestFirstRun(t *testing.T) {
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	testkit.Bin(t)
	cmd := exec.Command(filepath.Join(root, "packaging/first-run.sh"))
	cmd.Env = append(os.Environ(), "PORT=18081")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"hello from the first run", "finds it running", "web: Up", "It works"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "leftover") {
		t.Error("the file that a later layer removed is still there")
	}
	left, _ := filepath.Glob("/var/tmp/gantry-first-run-*")
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Started under the name dockerd it takes dockerd's defaults and flags.
func TestUnderTheNameDockerd(t *testing.T) {
	bin := testkit.Bin(t)
	dir := t.TempDir()
	link := filepath.Join(dir, "dockerd")
	if err := os.Symlink(filepath.Join(bin, "gantryd"), link); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(link, "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"dockerd [OPTIONS]", "--data-root", "/etc/docker/daemon.json"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in the help", want)
		}
	}
}
