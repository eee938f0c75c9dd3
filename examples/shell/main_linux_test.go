package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The example does what its comment says.
func TestShell(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making namespaces needs root")
	}
	dir := t.TempDir()
	build := func(name, pkg string) string {
		bin := filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-o", bin, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return bin
	}
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "proc", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("busybox-static is needed: ", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/sh"), box, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(build("shell", "."), root, "/bin/sh")
	cmd.Env = append(os.Environ(), "GANTRY_INIT="+build("gantry-init", "../../cmd/gantry-init"))
	cmd.Stdin = strings.NewReader("echo pid $$; read name </proc/sys/kernel/hostname; echo $name; exit 7\n")
	out, err := cmd.CombinedOutput()
	if string(out) != "pid 1\nbox\n" || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("%v, output %q", err, out)
	}
}
