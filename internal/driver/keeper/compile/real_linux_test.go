package compile_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	driver "github.com/gantry-engine/gantry/internal/driver/keeper"
	"github.com/gantry-engine/gantry/internal/driver/keeper/compile"
	"github.com/gantry-engine/gantry/internal/spec"
)

// start builds keeper, anchor and init, and gives a driver that uses them with a root file system.
func start(t *testing.T) (d *driver.Driver, root, fs string) {
	t.Helper()
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
	fs = filepath.Join(root, "fs")
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
	d, err = driver.New(driver.Config{
		ExecRoot: root, KeeperPath: bin("gantry-keeper"), AnchorPath: bin("gantry-anchor"), InitPath: bin("gantry-init"),
		Compile: compile.Launch, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return d, root, fs
}

// TestRealProcesses runs a container and an exec.
func TestRealProcesses(t *testing.T) {
	d, root, fs := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
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

// A further process joins all that its container has of its own, user and time namespaces included.
func TestExecJoinsEveryKind(t *testing.T) {
	d, root, fs := start(t)
	for _, dir := range []string{root, fs} { // the container's root is nobody here
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"proc", "dev"} { // which that user could not make
		if err := os.Mkdir(filepath.Join(fs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	kinds := []string{"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"}
	all := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.UTSNamespace}, {Type: specs.IPCNamespace},
		{Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace}}
	for name, more := range map[string][]specs.LinuxNamespace{
		"none":     nil,
		"user":     {{Type: specs.UserNamespace}},
		"time":     {{Type: specs.TimeNamespace}},
		"userTime": {{Type: specs.UserNamespace}, {Type: specs.TimeNamespace}},
	} {
		linux := &specs.Linux{Namespaces: append(slices.Clone(all), more...)}
		if strings.HasPrefix(name, "user") {
			linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
			linux.GIDMappings = linux.UIDMappings
		}
		process := func(args ...string) *specs.Process {
			return &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}}
		}
		l := spec.Launch{Key: spec.ProcessKey{Container: name}, Rootfs: spec.Rootfs{Path: fs},
			OCI: &specs.Spec{Version: specs.Version, Root: &specs.Root{Path: fs}, Process: process("/bin/busybox", "sleep", "1000"), Linux: linux,
				Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}, {Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}}}}
		running, err := d.Launch(ctx, l)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		x := spec.Launch{Key: spec.ProcessKey{Container: name, Exec: "e"}, OCI: &specs.Spec{Linux: &specs.Linux{Namespaces: linux.Namespaces},
			Process: process("/bin/busybox", "sh", "-c", "for k in "+strings.Join(kinds, " ")+"; do echo $k $(/bin/busybox readlink /proc/self/ns/$k); done")}}
		out, err := d.Follow(ctx, x.Key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Launch(ctx, x); err != nil {
			t.Fatalf("exec in %s: %v", name, err)
		}
		got := ""
		for {
			c, err := out.Next(ctx)
			if err != nil {
				break
			}
			got += string(c.Data)
		}
		_ = out.Close()
		want := ""
		for _, k := range kinds {
			link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", running.PID, k))
			if err != nil {
				t.Fatal(err)
			}
			want += k + " " + link + "\n"
			own, err := os.Readlink("/proc/self/ns/" + k)
			if shared := (k == "user" || strings.HasPrefix(k, "time")) && !strings.Contains(strings.ToLower(name), k[:4]); err != nil || shared != (own == link) {
				t.Errorf("%s: %s %s, the host's is %s", name, k, link, own)
			}
		}
		if got != want {
			t.Errorf("%s: an exec is in\n%s, the container in\n%s", name, got, want)
		}
		if err := d.Signal(ctx, l.Key, 9); err != nil {
			t.Error(err)
		}
	}
	exits := d.Exits(ctx)
	for range 8 {
		if x := <-exits; x.Key.Exec == "" && x.Code != 137 || x.Key.Exec != "" && x.Code != 0 {
			t.Errorf("exit %+v", x)
		}
	}
}
