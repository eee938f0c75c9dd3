package rootview

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
)

// swapper exchanges a folder, over and over, for links that would lead to the host's secret if anything
// resolved them with the host's root, and for a mount; a marker tells that it goes round.
const swapper = `mount -t proc proc /proc; n=0
while :; do
  for evil in abs up magic; do
    mv /a/d /a/kept; mv /a/$evil /a/d; mv /a/d /a/$evil; mv /a/kept /a/d
  done
  mount -t tmpfs none /a/d 2>/dev/null; echo mounted >/a/d/s; umount /a/d
  n=$((n+1)); echo $n >/rounds
done`

func readAll(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// A running container swaps what is being copied from and into: the host's file is neither read nor written,
// whatever the moment. The loop is bounded by time.
func TestRunningContainerSwapsPaths(t *testing.T) {
	secret := t.TempDir()
	must(t, os.WriteFile(filepath.Join(secret, "s"), []byte("secret of the host"), 0o644))
	before, err := os.Stat(secret)
	must(t, err)
	root := t.TempDir()
	for _, d := range []string{"bin", "proc", "a/d"} {
		must(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	box, err := os.ReadFile("/bin/busybox")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "bin/busybox"), box, 0o755))
	must(t, os.WriteFile(filepath.Join(root, "a/d/s"), []byte("own"), 0o644))
	must(t, os.Symlink(secret, filepath.Join(root, "a/abs")))
	must(t, os.Symlink(strings.Repeat("../", 20)+secret, filepath.Join(root, "a/up")))
	must(t, os.Symlink("/proc/self/root"+secret, filepath.Join(root, "a/magic"))) // of whoever resolves it: the engine
	cmd := exec.Command("/bin/busybox", "sh", "-c", swapper)
	cmd.Env = []string{"PATH=/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	for _, a := range []string{"mount", "umount", "mv", "sh"} {
		must(t, os.Symlink("busybox", filepath.Join(root, "bin", a)))
	}
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	rounds := filepath.Join(root, "rounds")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(rounds); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the container does not swap anything")
		}
	}
	v, err := New().Open(t.Context(), spec.Rootfs{}, nil, cmd.Process.Pid)
	must(t, err)
	defer v.Close()
	saw := map[string]int{}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		var b bytes.Buffer
		err := v.TarOut(t.Context(), "/a/d/s", "s", &b)
		switch {
		case bytes.Contains(b.Bytes(), []byte("secret")):
			t.Fatal("the host's file was read")
		case err != nil:
			saw["none"]++
		case bytes.Contains(b.Bytes(), []byte("mounted")):
			saw["mount"]++
		case bytes.Contains(b.Bytes(), []byte("own")):
			saw["own"]++
		}
		if st, err := v.Stat("/a/d/s"); err == nil && st.Size == int64(len("secret of the host")) {
			t.Fatal("the host's file was looked at")
		}
		b.Reset()
		_ = v.TarOut(t.Context(), "/a", "a", &b)
		if bytes.Contains(b.Bytes(), []byte("secret of the host")) {
			t.Fatal("the host's file was read with its folder")
		}
		_ = v.TarIn(t.Context(), "/a/d", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "w", Mode: 0o600, Linkname: "w"}), containers.TarInOptions{})
		_ = v.TarIn(t.Context(), "/a", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "d/s", Mode: 0o600, Linkname: "own"}), containers.TarInOptions{})
	}
	if saw["own"] == 0 || saw["none"] == 0 {
		t.Errorf("the container's states were not met while copying: %v, rounds %s", saw, readAll(rounds))
	}
	left, err := os.ReadDir(secret)
	must(t, err)
	if b, _ := os.ReadFile(filepath.Join(secret, "s")); len(left) != 1 || string(b) != "secret of the host" {
		t.Errorf("the host's folder was written to: %v %q", left, b)
	}
	if after, err := os.Stat(secret); err != nil || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the host's folder was changed: %v, was %v (%v)", after, before, err)
	}
}
