//go:build linux

package initproc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// fakeProc is a procfs that is a folder with this process's attribute files.
func fakeProc(t *testing.T, files ...string) (p *procfs, dir string) {
	t.Helper()
	dir = t.TempDir()
	self := filepath.Join(dir, strconv.Itoa(os.Getpid()))
	for _, f := range files {
		path := filepath.Join(self, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fd, e := open(dir, oPath|oDirectory)
	if e != 0 {
		t.Fatal(e)
	}
	t.Cleanup(func() { closeFD(fd) })
	return &procfs{fd: fd}, self
}

// Labels go to the file of their security module; AppArmor's own folder comes before the shared file.
func TestLabelFiles(t *testing.T) {
	selinux, apparmor := "system_u:system_r:container_t:s0", "exec docker-default"
	for _, tt := range []struct {
		files                 []string
		attr, value, fallback string
		want                  string
	}{
		{[]string{"attr/exec", "attr/keycreate"}, "exec", selinux, "", "attr/exec"},
		{[]string{"attr/exec", "attr/keycreate"}, "keycreate", selinux, "", "attr/keycreate"},
		{[]string{"attr/exec", "attr/apparmor/exec"}, "apparmor/exec", apparmor, "exec", "attr/apparmor/exec"},
		{[]string{"attr/exec"}, "apparmor/exec", apparmor, "exec", "attr/exec"},
	} {
		p, dir := fakeProc(t, tt.files...)
		if f := p.label(tt.attr, []byte(tt.value), tt.fallback); f != nil {
			t.Errorf("%s: %s", tt.attr, f.text)
		}
		for _, f := range tt.files {
			b, err := os.ReadFile(filepath.Join(dir, f))
			if want := f == tt.want; err != nil || (string(b) == tt.value) != want {
				t.Errorf("%s with %v: %s has %q (%v)", tt.attr, tt.files, f, b, err)
			}
		}
	}
	p, _ := fakeProc(t, "attr/other")
	if f := p.label("exec", []byte(selinux), ""); f == nil || !strings.Contains(f.text, selinux) || !strings.Contains(f.text, "not enabled") {
		t.Errorf("no file for it: %+v", f)
	}
}

// A setting is written to the file itself: neither by a link nor through a mount (CVE-2025-52881).
func TestSettingsFollowNoLink(t *testing.T) {
	p, dir := fakeProc(t, "attr/exec")
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(canary, filepath.Join(dir, "oom_score_adj")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(canary), filepath.Join(dir, "sys")); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(os.Getpid())
	for _, path := range []string{pid + "/oom_score_adj", pid + "/sys/canary", pid + "/../../../../.." + canary, canary} {
		if f := p.write("setting", path, []byte("written")); f == nil {
			t.Errorf("%s was written", path)
		}
	}
	over := filepath.Join(dir, "attr")
	if err := syscall.Mount("tmpfs", over, "tmpfs", 0, ""); err != nil {
		t.Skip("mounting needs root: ", err)
	}
	defer func() { _ = syscall.Unmount(over, syscall.MNT_DETACH) }()
	if err := os.WriteFile(filepath.Join(over, "exec"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if f := p.write("setting", pid+"/attr/exec", []byte("written")); f == nil || f.errno != syscall.EXDEV {
		t.Errorf("through a mount: %+v", f)
	}
	if b, err := os.ReadFile(canary); err != nil || len(b) > 0 {
		t.Errorf("the canary has %q (%v)", b, err)
	}
}

// What is believed to be /proc without having been made here is this process's own procfs from its top.
func TestForeignProc(t *testing.T) {
	for path, want := range map[string]bool{"/proc": true, "/proc/self": false, "/proc/sys": false, "/": false, t.TempDir(): false} {
		fd, e := open(path, oPath|oDirectory)
		if e != 0 {
			t.Fatal(e)
		}
		if got := ownProc(fd); got != want {
			t.Errorf("%s: %v", path, got)
		}
		closeFD(fd)
	}
}
