package runtime_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

var nsFiles = map[specs.LinuxNamespaceType]string{"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time", "user": "user"}

// userns gives a configuration a user namespace whose root is 100000 on the host, and a root
// file system that this user can enter.
func userns(t *testing.T, s *specs.Spec) *specs.Spec {
	t.Helper()
	for _, dir := range []string{s.Root.Path, filepath.Dir(s.Root.Path)} { // the test's own
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
	return s
}

func namespace(t *testing.T, pid int, kind string) string {
	t.Helper()
	link, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/" + kind)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// A container is in the namespaces that are given by path, whatever their kind, alone and all together.
func TestJoinEachKind(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := userns(t, configuration(t, root, "sleep", "1000"))
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "cgroup"}, specs.LinuxNamespace{Type: "time"})
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 10_000_000}}
	target := background(t, init, s)
	join := func(kinds ...specs.LinuxNamespaceType) {
		command := "true"
		for _, k := range kinds {
			command += "; readlink /proc/self/ns/" + nsFiles[k]
		}
		s := configuration(t, root, "sh", "-c", command)
		s.Hostname = ""
		var left []specs.LinuxNamespace
		for _, ns := range s.Linux.Namespaces {
			joined := false
			for _, k := range kinds {
				joined = joined || ns.Type == k
			}
			if !joined {
				left = append(left, ns)
			}
		}
		want := ""
		for _, k := range kinds {
			left = append(left, specs.LinuxNamespace{Type: k, Path: "/proc/" + strconv.Itoa(target.PID) + "/ns/" + nsFiles[k]})
			want += namespace(t, target.PID, nsFiles[k]) + "\n"
		}
		s.Linux.Namespaces = left
		if res := run(t, init, s, runtime.Options{}); res.err != nil || res.out != want {
			t.Errorf("%v: error %v, output %q, want %q", kinds, res.err, res.out, want)
		}
	}
	for kind := range nsFiles {
		join(kind)
	}
	join("network", "ipc", "uts")
	join("pid", "network", "ipc", "uts", "cgroup", "time")
	join("user", "network", "ipc", "uts")
	join("user", "pid", "network", "ipc", "uts", "cgroup", "time")
}

// What cannot be joined is refused with its path.
func TestJoinRefused(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	for path, text := range map[string]string{"/proc/self/ns/nosuch": "no such file", "/proc/self/ns/uts": "another kind", "/etc/passwd": "not a namespace"} {
		s := configuration(t, root, "true")
		for i := range s.Linux.Namespaces {
			if s.Linux.Namespaces[i].Type == "network" {
				s.Linux.Namespaces[i].Path = path
			}
		}
		if res := run(t, init, s, runtime.Options{}); res.err == nil || !strings.Contains(res.err.Error(), text) || !strings.Contains(res.err.Error(), path) {
			t.Errorf("%s: error %v, want %q", path, res.err, text)
		}
	}
	s := configuration(t, root, "true")
	s.Linux.Namespaces[0] = specs.LinuxNamespace{Type: "mount", Path: "/proc/self/ns/mnt"}
	if _, err := runtime.Compile(s, runtime.Options{}); err == nil || !strings.Contains(err.Error(), "mount namespace of its own") {
		t.Errorf("the host's mounts: %v", err)
	}
}

// A container in a user namespace of its own gets everything that others get: its settings, labels of its
// process, bind mounts, id-mapped mounts, devices and a terminal.
func TestUserNamespaceHasEverything(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	source := mkdir(t, filepath.Join(t.TempDir(), "private", "data"))
	if err := os.Chmod(filepath.Dir(source), 0o700); err != nil { // root in the container is nobody who gets through
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "f"), []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(root, "plain")) // the image belongs to the host's root here
	mkdir(t, filepath.Join(root, "mapped"))
	s := userns(t, configuration(t, root, "sh", "-c",
		"id -u; cat /proc/self/oom_score_adj; stat -c %u /plain/f /mapped/f; cat /proc/sys/net/ipv4/ip_forward; echo x >/dev/null && stat -c %F /dev/null; touch /dev/shm/x && stat -c %u /dev/shm/x"))
	s.Process.OOMScoreAdj = ptrTo(400)
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	mountAt(s, "/plain", "bind", source, "rbind")
	mountAt(s, "/mapped", "bind", source, "rbind", "ridmap", "ro")
	res := run(t, init, s, runtime.Options{})
	if want := "0\n400\n65534\n0\n1\ncharacter special file\n0\n"; res.err != nil || res.out != want {
		t.Errorf("error %v, output %q, want %q", res.err, res.out, want)
	}
	s = userns(t, configuration(t, root, "sh", "-c", "test -t 0 && tty && stat -c %u $(tty)"))
	s.Process.Terminal = true
	if out, _, err := terminal(t, init, s); err != nil || out != "/dev/pts/0\r\n0\r\n" {
		t.Errorf("terminal: error %v, output %q", err, out)
	}
}

// A further process of a container with user and time namespaces of its own is in them, as root and as a user.
func TestExecInUserAndTimeNamespace(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := userns(t, configuration(t, root, "sleep", "1000"))
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "time"}, specs.LinuxNamespace{Type: "cgroup"})
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 10_000_000}}
	target := background(t, init, s)
	flags := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUSER | unix.CLONE_NEWTIME)
	e := configuration(t, root, "sh", "-c", "readlink /proc/self/ns/user; readlink /proc/self/ns/time; id -u; cut -d' ' -f1 /proc/uptime | cut -c1-3; cat /proc/self/oom_score_adj; touch /tmp/made && stat -c %u /tmp/made")
	e.Process.OOMScoreAdj = ptrTo(300)
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	out, code, err := execIn(t, init, target.PIDFD, flags, e)
	want := namespace(t, target.PID, "user") + "\n" + namespace(t, target.PID, "time") + "\n0\n100\n300\n0\n"
	if err != nil || code != 0 || out != want {
		t.Errorf("code %d, error %v, output %q, want %q", code, err, out, want)
	}
	e = configuration(t, root, "id")
	e.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1002}}
	out, code, err = execIn(t, init, target.PIDFD, flags, e)
	if err != nil || code != 0 || !strings.HasPrefix(out, "uid=1000(web) gid=1001(web) groups=1002(extra)") {
		t.Errorf("as a user: code %d, error %v, output %q", code, err, out)
	}
}

// Joining everything of a container that has ended is an error, not a process on the host.
func TestExecAfterTheEnd(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	target := background(t, init, configuration(t, root, "true"))
	for range 1000 {
		if unix.Waitid(unix.P_PIDFD, target.PIDFD, nil, unix.WEXITED|unix.WNOWAIT, nil) == nil {
			break
		}
	}
	if out, _, err := execIn(t, init, target.PIDFD, unix.CLONE_NEWNS|unix.CLONE_NEWPID, configuration(t, root, "id")); err == nil {
		t.Errorf("it ran: %q", out)
	}
}

// Why the first process failed before it could execute gantry-init is told, with memory of its own (as
// user and time namespaces need it) as well as with the engine's.
func TestEarlyFailures(t *testing.T) {
	root := rootfs(t)
	path := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(path, []byte("no program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	broken, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	for name, s := range map[string]*specs.Spec{"shared": configuration(t, root, "true"), "own": userns(t, configuration(t, root, "true"))} {
		if res := run(t, broken, s, runtime.Options{}); res.err == nil || res.err.Error() != "init gantry-init: exec format error" {
			t.Errorf("%s memory: error %v", name, res.err)
		}
	}
}

// A process that waits at its gate, in the PID namespace of another container, cannot be looked into or traced by
// that container's root: it has given up its capabilities, but threads and memory of before are still there.
func TestWaitingProcessIsHidden(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	target := background(t, init, configuration(t, root, "sleep", "1000"))
	s := configuration(t, root, "echo", "runs")
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == "pid" {
			s.Linux.Namespaces[i].Path = "/proc/" + strconv.Itoa(target.PID) + "/ns/pid"
		}
	}
	p, err := runtime.Compile(s, runtime.Options{Gate: true})
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	spy := ""
	proc, err := runtime.Start(p, runtime.Files{Init: init, Gate: r}, spawn.Handler{Ready: func() bool {
		out, _, err := execIn(t, init, target.PIDFD, unix.CLONE_NEWNS|unix.CLONE_NEWPID, configuration(t, root, "sh", "-c",
			`for p in /proc/[0-9]*; do [ "$(head -c11 $p/cmdline 2>/dev/null)" = gantry-init ] || continue
			for f in environ maps mem exe root; do test -r $p/$f && head -c1 $p/$f >/dev/null 2>&1 && echo "reads $f"; done; readlink $p/exe; echo looked; done`))
		if spy = out; err != nil {
			t.Error(err)
		}
		_, err = w.Write([]byte{0})
		return err != nil
	}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = unix.Wait4(proc.PID, nil, 0, nil)
	unix.Close(proc.PIDFD)
	if spy != "looked\n" {
		t.Errorf("seen from the other container: %q", spy)
	}
}
