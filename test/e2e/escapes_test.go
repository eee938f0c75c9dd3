package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// CVE-2019-5736: a container that opens the runtime's executable through /proc and
// writes to it must not reach a file of the host.
func TestRuntimeExecutableIsSealed(t *testing.T) {
	e := engine(t)
	e.Must(t, "run", "-d", "--name", "box", "bb", "sh", "-c",
		`while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) continue;; esac; if (echo x > $p/exe) 2>/dev/null; then echo written $p; fi; done; done`)
	for range 20 {
		e.Must(t, "exec", "box", "true")
	}
	if out := e.Must(t, "logs", "box"); strings.Contains(out, "written") {
		t.Errorf("an executable was written through /proc: %s", out)
	}
}

// CVE-2024-21626: a working directory that is a leaked descriptor of the host.
func TestWorkingDirectoryByDescriptor(t *testing.T) {
	e := engine(t)
	e.Must(t, "run", "-d", "--name", "box", "bb", "sleep", "60")
	for fd := 3; fd < 20; fd++ {
		dir := "/proc/self/fd/" + string(rune('0'+fd/10)) + string(rune('0'+fd%10))
		if fd < 10 {
			dir = "/proc/self/fd/" + string(rune('0'+fd))
		}
		for _, args := range [][]string{{"run", "--rm", "-w", dir, "bb", "ls", "../../../../.."}, {"exec", "-w", dir, "box", "ls", "../../../../.."}} {
			out, _, code := e.Docker(args...)
			if code == 0 && strings.Contains(out, "work\n") || strings.Contains(out, filepath.Base(e.Dir)) {
				t.Errorf("docker %s shows the host: %s", strings.Join(args, " "), out)
			}
		}
	}
}

// No descriptor of the engine reaches the user's process.
func TestNoDescriptorsLeak(t *testing.T) {
	e := engine(t)
	if out := e.Must(t, "run", "--rm", "bb", "sh", "-c", "ls /proc/self/fd | wc -l"); out != "4" {
		t.Errorf("a container's process has %s descriptors, want 4 (three streams and the listing's own)", out)
	}
	e.Must(t, "run", "-d", "--name", "box", "bb", "sleep", "60")
	if out := e.Must(t, "exec", "box", "sh", "-c", "ls /proc/self/fd | wc -l"); out != "4" {
		t.Errorf("an executed process has %s descriptors, want 4", out)
	}
}

// CVE-2024-40635: a user's or group's number of more than 31 bits, which the kernel would cut down to root's.
func TestNumbersBeyondTheKernels(t *testing.T) {
	e := engine(t)
	const text = "uids and gids must be in range 0-2147483647"
	for _, n := range []string{"2147483648", "4294967295", "4294967296", "8589934592", "99999999999", "-1"} {
		fails(t, e, 125, []string{text}, "run", "--rm", "--user", n, "bb", "id")
		fails(t, e, 125, []string{text}, "run", "--rm", "--user", "1000:"+n, "bb", "id")
		fails(t, e, 125, []string{text}, "run", "--rm", "--user", "1000", "--group-add", n, "bb", "id")
	}
	e.Must(t, "run", "-d", "--name", "box", "bb", "sh", "-c", "echo big:x:4294967296:4294967296::/: >>/etc/passwd; echo big:x:4294967296: >>/etc/group; echo 7:x:0:0::/: >>/etc/passwd; exec sleep 60")
	e.Must(t, "exec", "box", "sh", "-c", "until grep -q ^7: /etc/passwd; do sleep 0.02; done")
	for _, n := range []string{"4294967296", "1:4294967296", "big", "1:big"} {
		if out, errs, code := e.Docker("exec", "-u", n, "box", "id"); code == 0 || !strings.Contains(out+errs, text) {
			t.Errorf("exec as %s: exit %d, %s%s", n, code, out, errs)
		}
	}
	if out := e.Must(t, "exec", "-u", "7", "box", "id", "-u"); out != "7" {
		t.Errorf("exec as 7, which the container calls root: %s", out)
	}
}

// CVE-2025-31133: masked paths rely on /dev/null being /dev/null; an image that brings
// a link in its place must not unmask anything nor have the link's target masked or written.
func TestMaskingWithAForgedNull(t *testing.T) {
	e := engine(t)
	e.Must(t, "run", "--name", "make", "bb", "sh", "-c", "mkdir -p /dev; rm -f /dev/null; ln -s /proc/sys/kernel/core_pattern /dev/null")
	e.Must(t, "commit", "make", "forged:1")
	before, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	if out, _, code := e.Docker("run", "--rm", "forged:1", "sh", "-c", "cat /proc/timer_list | wc -c; cat /proc/keys | wc -c; echo owned > /dev/null"); code == 0 && !strings.HasPrefix(out, "0\n0\n") {
		t.Errorf("masked files have content: %s", out)
	}
	after, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil || string(after) != string(before) {
		t.Errorf("core_pattern was %q and is %q (%v)", before, after, err)
	}
}

// CVE-2025-52565: /dev/console made a link by the image must not be followed.
func TestForgedConsole(t *testing.T) {
	e := engine(t)
	e.Must(t, "run", "--name", "make", "bb", "sh", "-c", "true")
	e.Must(t, "commit", "make", "console:1")
	out, _, code := e.Docker("run", "--rm", "-t", "-v", "/dev/null:/etc/canary", "console:1", "sh", "-c", "ls -l /dev/console | cut -c1")
	if code != 0 || strings.TrimSpace(out) != "c" {
		t.Errorf("exit %d, %q: the console is no character device", code, out)
	}
}

// CVE-2025-52881: writes to /proc (sysctls, labels) must land in /proc, whatever the image or a
// volume shared with a racing container puts there.
func TestProcWritesAreNotRedirected(t *testing.T) {
	e := engine(t)
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, e, 125, nil, "run", "--rm", "-v", filepath.Dir(canary)+":/proc/sys", "--sysctl", "kernel.msgmax=4096", "bb", "true")
	if b, err := os.ReadFile(canary); err != nil || string(b) != "untouched" {
		t.Errorf("the host's file became %q (%v)", b, err)
	}
}

// A container that swaps a folder with a link to the root while it is copied never reaches the host.
func TestCopyDuringASwap(t *testing.T) {
	e := engine(t)
	secret := filepath.Join(t.TempDir(), "gantry-secret")
	if err := os.WriteFile(secret, []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Must(t, "run", "-d", "--name", "box", "bb", "sh", "-c",
		`mkdir -p /a`+filepath.Dir(secret)+`; echo container > /a`+secret+`; ln -s / /b; while :; do mv /a /c; mv /b /a; mv /a /b; mv /c /a; done`)
	target := t.TempDir()
	deadline := time.Now().Add(3 * time.Second)
	for time.Now().Before(deadline) {
		out, _, code := e.Docker("cp", "box:/a"+secret, filepath.Join(target, "f"))
		if b, err := os.ReadFile(filepath.Join(target, "f")); err == nil && strings.Contains(string(b), "host") {
			t.Fatalf("the host's file was copied (exit %d %s)", code, out)
		}
		_ = os.Remove(filepath.Join(target, "f"))
		if err := os.WriteFile(filepath.Join(target, "in"), []byte("planted"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, _ = e.Docker("cp", filepath.Join(target, "in"), "box:/a"+filepath.Dir(secret))
		if _, err := os.Lstat(filepath.Join(filepath.Dir(secret), "in")); err == nil {
			t.Fatal("a file was planted on the host")
		}
	}
}
