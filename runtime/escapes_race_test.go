package runtime_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

// swap exchanges two names of a folder, over and over, until the test's part is done: what
// another container with the same volume can do while this one is being set up.
func swap(t *testing.T, dir, a, b string) (stop func()) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = unix.Renameat2(fd, a, fd, b, unix.RENAME_EXCHANGE)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait(); unix.Close(fd) })
	t.Cleanup(stop)
	return stop
}

func symlink(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// CVE-2025-52881: a link leads a mount, a device or a terminal into /proc. The path as written
// says nothing of it, so it can only be noticed by the place that was reached.
func TestLinksIntoProc(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	symlink(t, "proc", filepath.Join(root, "plain"))
	symlink(t, "/proc/sys/kernel", filepath.Join(root, "kernel"))
	symlink(t, "/proc/1/attr/exec", filepath.Join(root, "label"))
	host := t.TempDir()
	for name, change := range map[string]func(s *specs.Spec){
		"tmpfs":        func(s *specs.Spec) { mountAt(s, "/kernel", "tmpfs", "tmpfs") },
		"tmpfs on all": func(s *specs.Spec) { mountAt(s, "/plain", "tmpfs", "tmpfs") },
		"folder":       func(s *specs.Spec) { mountAt(s, "/plain/fs", "bind", host) },
		"file":         func(s *specs.Spec) { mountAt(s, "/label", "bind", "/dev/null") },
		"device": func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/plain/devices", Type: "c", Major: 1, Minor: 3}}
		},
	} {
		s := configuration(t, root, "true")
		change(s)
		res := run(t, init, s, runtime.Options{})
		if res.err == nil || !strings.Contains(res.err.Error(), "/proc") {
			t.Errorf("%s: error %v, want one about /proc", name, res.err)
		}
	}
	s := configuration(t, root, "true")
	s.Mounts, s.Linux.ReadonlyPaths, s.Linux.MaskedPaths = s.Mounts[:1], nil, nil // /dev is the image's
	if err := os.RemoveAll(filepath.Join(root, "dev")); err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(root, "real/pts"))
	symlink(t, "real", filepath.Join(root, "dev"))
	mountAt(s, "/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666")
	symlink(t, "/proc/sys/kernel/domainname", filepath.Join(root, "real/console"))
	s.Process.Terminal = true
	if _, _, err := terminal(t, init, s); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("console: error %v, want one about the link", err)
	}
}

// A procfs is mounted on a folder, not where a link of the image leads.
func TestProcOnALink(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	if err := os.Remove(filepath.Join(root, "proc")); err != nil {
		t.Fatal(err)
	}
	symlink(t, "/tmp", filepath.Join(root, "proc"))
	if res := run(t, init, configuration(t, root, "true"), runtime.Options{}); res.err == nil || !strings.Contains(res.err.Error(), "ordinary folder") {
		t.Errorf("error %v", res.err)
	}
}

func mountAt(s *specs.Spec, dest, fstype, source string, options ...string) {
	s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: fstype, Source: source, Options: options})
}

// terminal runs a container with a terminal and gives what it printed and its exit code.
func terminal(t *testing.T, init *os.File, s *specs.Spec) (string, int, error) {
	t.Helper()
	p, err := runtime.Compile(s, runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var master *os.File
	proc, err := runtime.Start(p, runtime.Files{Init: init}, spawn.Handler{Terminal: func(fd int) error {
		master = os.NewFile(uintptr(fd), "ptmx")
		return nil
	}})
	var out []byte
	if master != nil {
		out, _ = io.ReadAll(master) // ends with EIO when the last user of the terminal is gone
		master.Close()
	}
	var st unix.WaitStatus
	if proc != nil {
		_, _ = unix.Wait4(proc.PID, &st, 0, nil)
		unix.Close(proc.PIDFD)
	}
	return string(out), st.ExitStatus(), err
}

// CVE-2025-52881, raced: a volume's folder becomes a link to /proc while the mount on it is made.
// It lands in the volume or is refused, and both must have been seen for the race to have been one.
func TestSwappedMountPoint(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	vol := t.TempDir()
	mkdir(t, filepath.Join(vol, "d/kernel"))
	symlink(t, "/proc/sys", filepath.Join(vol, "evil"))
	s := configuration(t, root, "sh", "-c", "grep -c ' /proc/.* tmpfs ' /proc/self/mountinfo; true")
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	mountAt(s, "/vol", "bind", vol, "rbind")
	mountAt(s, "/vol/d/kernel", "tmpfs", "evil")
	stop := swap(t, vol, "d", "evil")
	landed, refused := 0, 0
	for range 400 {
		res := run(t, init, s, runtime.Options{})
		switch {
		case res.err == nil && res.out == "0\n":
			landed++
		case res.err != nil:
			refused++
		default:
			t.Fatalf("a mount stands over a part of /proc: %q", res.out)
		}
		if landed > 20 && refused > 20 {
			break
		}
	}
	stop()
	if landed == 0 || refused == 0 {
		t.Errorf("%d landed in the volume, %d were refused: there was no race", landed, refused)
	}
}

// CVE-2025-31133: /dev is a volume in which somebody swaps the null device for a link. What hides
// the masked paths is always the host's null device, and no file of the host shows up or is written.
func TestSwappedNullDevice(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	dev, canary := t.TempDir(), filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("untouched"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(dev, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(dev, "pts"))
	symlink(t, "/proc/sys/kernel/core_pattern", filepath.Join(dev, "evil"))
	s := configuration(t, root, "sh", "-c", "for f in keys timer_list kcore; do test -e /proc/$f && stat -c '%t:%T' /proc/$f; done; true")
	s.Mounts = s.Mounts[:1]
	mountAt(s, "/dev", "bind", dev, "rbind")
	stop := swap(t, dev, "null", "evil")
	for range 60 {
		res := run(t, init, s, runtime.Options{})
		if res.err != nil {
			t.Fatal(res.err)
		}
		for _, kind := range strings.Fields(res.out) {
			if kind != "1:3" {
				t.Fatalf("a masked path is %q, not the null device", kind)
			}
		}
		if !strings.Contains(res.out, "1:3") {
			t.Fatal("nothing was masked: the test shows nothing")
		}
	}
	stop()
	if b, err := os.ReadFile(canary); err != nil || string(b) != "untouched" {
		t.Errorf("the canary became %q (%v)", b, err)
	}
}

// CVE-2025-52565: /dev is a volume in which somebody swaps the console for a link into /proc. The
// terminal is bound to the console itself or not at all.
func TestSwappedConsole(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	dev := t.TempDir()
	mkdir(t, filepath.Join(dev, "pts"))
	if err := os.WriteFile(filepath.Join(dev, "console"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	symlink(t, "/proc/sys/kernel/domainname", filepath.Join(dev, "evil"))
	s := configuration(t, root, "sh", "-c", "grep -c ' /proc/.* devpts ' /proc/self/mountinfo; true")
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	s.Process.Terminal = true
	pts := s.Mounts[2]
	s.Mounts = s.Mounts[:1]
	mountAt(s, "/dev", "bind", dev, "rbind")
	s.Mounts = append(s.Mounts, pts)
	stop := swap(t, dev, "console", "evil")
	bound, refused := 0, 0
	for range 400 {
		out, _, err := terminal(t, init, s)
		switch {
		case err == nil && out == "0\r\n":
			bound++
		case err != nil && strings.Contains(err.Error(), "/dev/console"):
			refused++
		default:
			t.Fatalf("error %v, output %q", err, out)
		}
		if bound > 20 && refused > 20 {
			break
		}
	}
	stop()
	if bound == 0 || refused == 0 {
		t.Errorf("%d bound, %d refused: there was no race", bound, refused)
	}
}

// CVE-2025-52565: what a container has at /dev/pts must be a devpts before a terminal is taken from it.
func TestForgedPtmx(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	dev := t.TempDir()
	mkdir(t, filepath.Join(dev, "pts"))
	if err := os.WriteFile(filepath.Join(dev, "pts/ptmx"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	s := configuration(t, root, "true")
	s.Mounts = s.Mounts[:1]
	mountAt(s, "/dev", "bind", dev, "rbind")
	s.Process.Terminal = true
	if _, _, err := terminal(t, init, s); err == nil || !strings.Contains(err.Error(), "not a devpts") {
		t.Errorf("error %v", err)
	}
}

// CVE-2024-21626: a descriptor of the host's root leaks into init, and working directory, command
// or a link of the image lead through it.
func TestLeakedDescriptor(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	leak, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0) // inherited by whatever is executed
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	symlink(t, "/proc/self/fd/"+strconv.Itoa(leak), filepath.Join(root, "wd"))
	through := []string{"/wd", "/wd/../../../..", "/proc/self/fd/" + strconv.Itoa(leak)}
	for fd := 3; fd < 20; fd++ {
		through = append(through, "/proc/self/fd/"+strconv.Itoa(fd), "/proc/self/fd/"+strconv.Itoa(fd)+"/../../..")
	}
	for _, dir := range through {
		s := configuration(t, root, "sh", "-c", "ls -d root/.. boot var/lib; true")
		s.Process.Cwd = dir
		if res := run(t, init, s, runtime.Options{}); res.err == nil && strings.Contains(res.out, "boot") && !strings.Contains(res.out, "No such file") {
			t.Errorf("working directory %s shows the host:\n%s", dir, res.out)
		}
		s = configuration(t, root, dir+"/usr/bin/true") // the host's: the image has none
		if res := run(t, init, s, runtime.Options{}); res.err == nil {
			t.Errorf("a program was executed through %s", dir)
		}
	}
	res := run(t, init, configuration(t, root, "sh", "-c", "for f in /proc/self/fd/*; do readlink $f; done; cat /proc/1/cmdline"), runtime.Options{})
	if res.err != nil || strings.Contains(res.out, "\n/\n") || strings.HasPrefix(res.out, "/\n") {
		t.Errorf("error %v, the program has\n%s", res.err, res.out)
	}
}

// CVE-2019-16884: an image's or user's own folder as /proc would take the label's place. A procfs may be bound there.
func TestForgedProc(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	for _, dest := range []string{"/proc", "/proc/", "/./proc"} {
		for _, keep := range []int{0, 1} { // instead of the container's own, and over it
			s := configuration(t, root, "true")
			s.Mounts = append(s.Mounts[:keep:keep], s.Mounts[1:]...)
			mountAt(s, dest, "bind", t.TempDir(), "rbind")
			if res := run(t, init, s, runtime.Options{}); res.err == nil || !strings.Contains(res.err.Error(), "/proc") {
				t.Errorf("bind on %s: error %v", dest, res.err)
			}
			s.Mounts[len(s.Mounts)-1] = specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs"}
			if _, err := runtime.Compile(s, runtime.Options{}); err == nil || !strings.Contains(err.Error(), "only a procfs") {
				t.Errorf("tmpfs on %s: error %v", dest, err)
			}
		}
		s := configuration(t, root, "sh", "-c", "readlink /proc/self >/dev/null && echo process")
		mountAt(s, dest, "bind", "/proc", "rbind")
		s.Linux.Namespaces = s.Linux.Namespaces[:1] // the PID namespace that the host's procfs shows
		s.Hostname = ""
		if res := run(t, init, s, runtime.Options{}); res.err != nil || res.out != "process\n" {
			t.Errorf("the host's procfs on %s: error %v, output %q", dest, res.err, res.out)
		}
	}
}
