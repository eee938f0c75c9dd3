package runtime_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/runtime"
)

// CVE-2024-21626: no descriptor of the engine is a working directory, and none reaches the program.
func TestWorkingDirectoryOutsideIsRefused(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for fd := 3; fd < 16; fd++ {
		s := configuration(t, root, "sh", "-c", "pwd; ls ../../..")
		s.Process.Cwd = "/proc/self/fd/" + strconv.Itoa(fd)
		if res := run(t, init, s, runtime.Options{}); res.err == nil && strings.Contains(res.out, "root") {
			t.Errorf("working directory %s shows the host:\n%s", s.Process.Cwd, res.out)
		}
	}
	res := run(t, init, configuration(t, root, "sh", "-c", "ls /proc/self/fd"), runtime.Options{})
	if res.err != nil || res.out != "0\n1\n2\n3\n" { // 3 is the listing's own
		t.Errorf("error %v, descriptors %q", res.err, res.out)
	}
}

// CVE-2025-31133 and CVE-2025-52881: links of the image at /dev/null and below a mount's target
// lead nowhere outside the container, and nothing of the host is written.
func TestForgedLinks(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"null", "console", "zero"} {
		if err := os.Symlink(canary, filepath.Join(root, "dev", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/../../../../"+filepath.Dir(canary), filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	s := configuration(t, root, "sh", "-c", "stat -c %F /dev/null; cat /proc/timer_list; echo x >/dev/null; test -e /out/canary || echo inside")
	res := run(t, init, s, runtime.Options{})
	if res.err != nil || res.out != "character special file\ninside\n" {
		t.Errorf("error %v, output %q", res.err, res.out)
	}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/out/made", Type: "tmpfs", Source: "tmpfs"})
	run(t, init, s, runtime.Options{}) // whether it is refused or lands inside: only the host matters
	if b, err := os.ReadFile(canary); err != nil || string(b) != "untouched" {
		t.Errorf("the host's file became %q (%v)", b, err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(canary), "made")); err == nil {
		t.Error("a folder was made on the host through a link of the image")
	}
}

// CVE-2019-5736: what is executed as init can be written by nobody.
func TestInitIsSealed(t *testing.T) {
	init := initFile(t)
	path := "/proc/self/fd/" + strconv.Itoa(int(init.Fd()))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return // refused at once: as good
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("owned"), 0); err == nil {
		t.Error("gantry-init's memory file was written")
	}
}
