package compile_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	driver "github.com/gantry-engine/gantry/internal/driver/keeper"
	"github.com/gantry-engine/gantry/internal/driver/keeper/compile"
	"github.com/gantry-engine/gantry/internal/spec"
)

// TestRealProcesses builds keeper, anchor and init and runs a container and an exec with them.
func TestRealProcesses(t *testing.T) {
	root, err := os.MkdirTemp("/dev/shm", "gr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	bin := func(name string) string { return filepath.Join(root, name) }
	for _, name := range []string{"gantry-init", "gantry-keeper", "gantry-anchor"} {
		cmd := exec.Command("go", "build", "-o", bin(name), "github.com/gantry-engine/gantry/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", name, err, out)
		}
	}
	fs := filepath.Join(root, "fs")
	if err := os.MkdirAll(filepath.Join(fs, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fs, "bin", "busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	d, err := driver.New(driver.Config{
		ExecRoot: root, KeeperPath: bin("gantry-keeper"), AnchorPath: bin("gantry-anchor"), InitPath: bin("gantry-init"),
		Compile: compile.Launch, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(ctx); err != nil {
			t.Errorf("stopping: %v", err)
		}
	}()
	process := func(args ...string) *specs.Process {
		return &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, User: specs.User{}}
	}
	l := spec.Launch{
		Key: spec.ProcessKey{Container: "c1"}, Stdin: true,
		OCI: &specs.Spec{
			Version: specs.Version, Root: &specs.Root{Path: fs}, Hostname: "inside",
			Process: process("/bin/busybox", "sh", "-c", "/bin/busybox hostname; read x; exit 4"),
			Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.UTSNamespace}, {Type: specs.IPCNamespace},
			}},
		},
		Rootfs: spec.Rootfs{Path: fs},
		Log:    spec.LogConfig{Driver: "json-file", Path: filepath.Join(root, "c1.log")},
	}
	if _, err := d.Launch(ctx, l); err != nil {
		t.Fatalf("launch: %v", err)
	}
	x := spec.Launch{Key: spec.ProcessKey{Container: "c1", Exec: "e1"}, OCI: &specs.Spec{Process: process("/bin/busybox", "hostname"), Linux: &specs.Linux{}}}
	out, err := d.Follow(ctx, x.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := d.Launch(ctx, x); err != nil {
		t.Fatalf("exec: %v", err)
	}
	c, err := out.Next(ctx)
	if err != nil || string(c.Data) != "inside\n" {
		t.Errorf("exec printed %q, %v", c.Data, err)
	}
	exits := d.Exits(ctx)
	if e := <-exits; e.Key != x.Key || e.Code != 0 || e.Unknown {
		t.Errorf("exec's exit = %+v", e)
	}
	bad := spec.Launch{Key: spec.ProcessKey{Container: "c1", Exec: "e2"}, OCI: &specs.Spec{Process: process("/bin/nothing"), Linux: &specs.Linux{}}}
	if _, err := d.Launch(ctx, bad); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a missing program: %v", err)
	} else if _, ok := err.(*spec.LaunchError); !ok {
		t.Errorf("a missing program gives %T", err)
	}
	if err := d.CloseStdin(ctx, l.Key); err != nil {
		t.Error(err)
	}
	if e := <-exits; e.Key != l.Key || e.Code != 4 {
		t.Errorf("exit = %+v", e)
	}
	if b, _ := os.ReadFile(l.Log.Path); !strings.Contains(string(b), `"log":"inside\n"`) {
		t.Errorf("log: %s", b)
	}
}
