package runtime_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

func null(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func parker(t *testing.T, init *os.File) *spawn.Parker {
	t.Helper()
	k, err := spawn.NewParker(init, null(t), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// runParked is run through an init that was there before.
func runParked(t *testing.T, init *os.File, s *specs.Spec, opts runtime.Options, meanwhile func()) result {
	t.Helper()
	p, err := runtime.Compile(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cfg := &spawn.Config{Program: p.Init, Facts: p.Facts, Init: init, Gate: -1, NetNS: -1, TargetPIDFD: -1,
		Stdio: [3]int{int(null(t).Fd()), int(w.Fd()), int(w.Fd())}}
	ns, ok := spawn.ParkedNamespaces(cfg)
	if !ok {
		t.Fatal("the configuration cannot have a parked init")
	}
	parked, err := parker(t, init).Park(ns)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	meanwhile()
	proc, err := parked.Adopt(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var res result
	res.err = proc.Run(spawn.Handler{Warning: func(s string) { res.warn = append(res.warn, s) }})
	w.Close()
	var b bytes.Buffer
	_, _ = io.Copy(&b, r)
	var st unix.WaitStatus
	_, _ = unix.Wait4(proc.PID, &st, 0, nil)
	unix.Close(proc.PIDFD)
	res.out, res.code = b.String(), st.ExitStatus()
	return res
}

const world = `echo pid $$; hostname; id; pwd; cat /proc/1/limits; ls -l /proc/1/fd /dev; grep -v Pid /proc/self/status | grep -e Cap -e Sec -e NoNew -e Umask -e Threads;
cut -d' ' -f5,6,8- /proc/1/mountinfo; cat /proc/1/cgroup; exit 7`

// A container from a parked init sees what one from a fresh init sees.
func TestParkedIsAlike(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "sh", "-c", world)
	one, other := run(t, init, s, runtime.Options{SetHome: true}), runParked(t, init, s, runtime.Options{SetHome: true}, func() {})
	if one.err != nil || other.err != nil || one.code != 7 || other.code != 7 {
		t.Fatalf("codes %d %d, errors %v %v\n%s", one.code, other.code, one.err, other.err, other.out)
	}
	plain := func(s string) string { // pipes and times differ
		var keep []string
		for line := range strings.Lines(s) {
			f := strings.Fields(line)
			if len(f) > 8 && strings.HasPrefix(f[0], "l") {
				line = f[0] + " " + strings.Join(f[8:], " ") + "\n"
				line = strings.Split(line, "[")[0]
			} else if len(f) > 8 {
				line = f[0] + " " + f[len(f)-1] + "\n"
			}
			keep = append(keep, line)
		}
		return strings.Join(keep, "")
	}
	if plain(one.out) != plain(other.out) {
		t.Errorf("fresh:\n%s\nparked:\n%s", plain(one.out), plain(other.out))
	}
}

// What the host mounts after the init was parked can be bound all the same, and is busy no longer than the container lives.
func TestParkedSeesLaterMounts(t *testing.T) {
	init, root, dir := initFile(t), rootfs(t), t.TempDir()
	s := configuration(t, root, "cat", "/data/word")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: dir, Options: []string{"rbind"}})
	res := runParked(t, init, s, runtime.Options{}, func() {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		if err := os.WriteFile(filepath.Join(dir, "word"), []byte("late"), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	if res.err != nil || res.out != "late" {
		t.Errorf("error %v, output %q", res.err, res.out)
	}
}

// A discarded init leaves nothing to reap.
func TestParkedIsDiscarded(t *testing.T) {
	p, err := parker(t, initFile(t)).Park(unix.CLONE_NEWPID)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Alive() {
		t.Fatal("it is not alive")
	}
	p.Discard()
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("something is left to reap: %v", err)
	}
}

// Of a process with many descriptors a parked init gets its own few; the others cost it nothing, and the
// process keeps what it had.
func TestParkedTakesFewDescriptors(t *testing.T) {
	init, label := initFile(t), t.Name()
	k, err := spawn.NewParker(init, null(t), label)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	count := func(pid string) int {
		t.Helper()
		fds, err := os.ReadDir("/proc/" + pid + "/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	for range 300 {
		fd, err := unix.Open("/", unix.O_PATH, 0) // not closed by an execution
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	had := count("self")
	p, err := k.Park(unix.CLONE_NEWPID)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Discard()
	if n := count("self"); n != had+2 { // its pidfd and our end of its socket
		t.Errorf("%d descriptors before, %d after", had, n)
	}
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range all {
		if b, err := os.ReadFile(file); err != nil || !strings.HasSuffix(string(b), "\x00"+label+"\x00") {
			continue
		}
		found++
		// A table only grows: had it held ours once, it would be larger.
		if status := readFile(t, filepath.Join(filepath.Dir(file), "status")); !strings.Contains(status, "\nFDSize:\t64\n") {
			t.Errorf("the init has had more than 64 descriptors:\n%s", status)
		}
	}
	if found != 1 {
		t.Errorf("%d inits are parked", found)
	}
}

// A mount below a link that leads nowhere is made where the link says, inside the root.
func TestMountThroughDanglingLink(t *testing.T) {
	init := initFile(t)
	for _, to := range []string{"/run/systemd/resolve/stub-resolv.conf", "../run/resolv.conf", "../../../../run/resolv.conf", "other"} {
		root := rootfs(t)
		source := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(source, []byte("nameserver 192.0.2.1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(root, "etc/resolv.conf")); err != nil {
			t.Fatal(err)
		}
		s := configuration(t, root, "cat", "/etc/resolv.conf")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: source, Options: []string{"rbind"}})
		if res := run(t, init, s, runtime.Options{}); res.err != nil || res.out != "nameserver 192.0.2.1\n" {
			t.Errorf("%s: error %v, output %q", to, res.err, res.out)
		}
	}
	root := rootfs(t)
	if err := os.Symlink("b", filepath.Join(root, "etc/a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(root, "etc/b")); err != nil {
		t.Fatal(err)
	}
	s := configuration(t, root, "true")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/a", Type: "tmpfs", Source: "tmpfs"})
	if res := run(t, init, s, runtime.Options{}); res.err == nil || !strings.Contains(res.err.Error(), "/etc/a") {
		t.Errorf("a circle of links: %v", res.err)
	}
}
