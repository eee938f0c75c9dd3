package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// without takes a namespace away.
func (b *box) without(kind specs.LinuxNamespaceType) {
	var left []specs.LinuxNamespace
	for _, n := range b.spec.Linux.Namespaces {
		if n.Type != kind {
			left = append(left, n)
		}
	}
	b.spec.Linux.Namespaces = left
}

// TestWithoutMountNamespace: what protects the host and cannot be had is refused, as runc does; the
// rest runs in a chroot, and so does what is executed later.
func TestWithoutMountNamespace(t *testing.T) {
	plain := func(b *box) {
		b.without(specs.MountNamespace)
		b.spec.Linux.MaskedPaths, b.spec.Linux.ReadonlyPaths = nil, nil
	}
	for name, c := range map[string]struct {
		change func(b *box)
		want   string
	}{
		"masked":      {func(b *box) { b.spec.Linux.MaskedPaths = []string{"/proc/keys"} }, "linux.maskedPaths"},
		"read-only":   {func(b *box) { b.spec.Linux.ReadonlyPaths = []string{"/proc/sys"} }, "linux.readonlyPaths"},
		"root":        {func(b *box) { b.spec.Root.Readonly = true }, "root.readonly"},
		"propagation": {func(b *box) { b.spec.Linux.RootfsPropagation = "shared" }, "linux.rootfsPropagation"},
		"terminal":    {func(b *box) { b.spec.Process.Terminal = true }, "process.terminal"},
	} {
		b := newBox(t, "true")
		plain(b)
		c.change(b)
		b.write()
		if out, code := b.run("run", "-b", b.bundle, "x"); code != 1 || !strings.Contains(out, c.want+" needs a new mount namespace") {
			t.Errorf("%s: code %d, %q", name, code, out)
		}
	}
	b := newBox(t, "sleep", "1000")
	plain(b)
	id := name(t)
	b.up(id)
	if out := b.must("exec", id, "ls", "/"); out != "bin\n" {
		t.Errorf("exec sees %q: the root is not the container's", out)
	}
	if out, code := b.run("exec", "--cwd", "/nowhere", id, "ls"); code != 255 || !strings.Contains(out, "/nowhere") {
		t.Errorf("working directory: code %d, %q", code, out)
	}
}

// TestMaskedFileIsNotTheHosts: a masked file shows the host's null device, which a container must not be able to change.
func TestMaskedFileIsNotTheHosts(t *testing.T) {
	b := newBox(t, "sh", "-c", "for f in /proc/keys /proc/timer_list; do cat $f && echo x >$f && chmod 0666 $f; done")
	caps := []string{"CAP_FOWNER", "CAP_CHOWN"}
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	b.write()
	out, _ := b.run("run", "-b", b.bundle, name(t))
	if strings.Count(out, "Read-only file system") != 2 || strings.Count(out, "\n") != 2 {
		t.Errorf("two refusals of chmod, and nothing else, are expected: %q", out)
	}
}

// TestDevicesWithoutRules: silence about devices allows no more than the usual ones, as with runc.
func TestDevicesWithoutRules(t *testing.T) {
	b := newBox(t, "sh", "-c", "mknod /fuse c 10 229; mknod /zero c 1 5; cat </fuse; cat /dev/null </zero; echo $?")
	caps := []string{"CAP_MKNOD"}
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	id := name(t)
	limit := int64(100)
	for _, res := range []*specs.LinuxResources{nil, {}, {Pids: &specs.LinuxPids{Limit: &limit}}} {
		b.spec.Linux.Resources = res
		b.write()
		out, _ := b.run("run", "-b", b.bundle, id)
		if !strings.Contains(out, "/fuse: Operation not permitted") || !strings.HasSuffix(out, "\n0\n") {
			t.Errorf("resources %+v: %q", res, out)
		}
		for _, node := range []string{"fuse", "zero"} {
			if err := os.Remove(filepath.Join(b.bundle, "rootfs", node)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSessionKeyring(t *testing.T) {
	b := newBox(t, "cat", "/proc/keys")
	b.spec.Linux.MaskedPaths = nil
	b.write()
	id := name(t)
	if out := b.must("run", "-b", b.bundle, id); !strings.Contains(out, "_ses."+id) {
		t.Errorf("the keyring is not the container's own: %q", out)
	}
	other := id + "-shared" // the kernel takes its time to collect the first one
	if out := b.must("run", "--no-new-keyring", "-b", b.bundle, other); strings.Contains(out, "_ses."+other) {
		t.Errorf("--no-new-keyring: %q", out)
	}
	b.spec.Process.Args = []string{"sleep", "1000"}
	b.up(id)
	if out := b.must("exec", id, "cat", "/proc/keys"); !strings.Contains(out, "_ses."+id) {
		t.Errorf("exec's keyring is not the container's: %q", out)
	}
}

func TestDescriptors(t *testing.T) {
	b := newBox(t, "sh", "-c", "ls /proc/self/fd | cat; cat <&4; echo $LISTEN_FDS $LISTEN_PID")
	b.write()
	id := name(t)
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("fourth\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *os.File {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	cmd := b.command("run", "--preserve-fds", "1", "-b", b.bundle, id)
	cmd.ExtraFiles = []*os.File{open(), open(), open()} // the fifth is not asked for
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1")
	out, code := b.finish(cmd)
	// 0, 1, 2, 3 and 4, and the folder that ls reads
	if want := "0\n1\n2\n3\n4\n5\nfourth\n1 1\n"; out != want || code != 0 {
		t.Errorf("code %d, %q, not %q", code, out, want)
	}
	b.spec.Process.Args = []string{"sleep", "1000"}
	b.up(id)
	cmd = b.command("exec", "--preserve-fds", "2", id, "cat", "/proc/self/fd/4")
	cmd.ExtraFiles = []*os.File{open(), open()}
	if out, code := b.finish(cmd); out != "fourth\n" || code != 0 {
		t.Errorf("exec: code %d, %q", code, out)
	}
	if out, code := b.run("exec", "--preserve-fds", "1", id, "true"); code != 255 || !strings.Contains(out, "descriptor 3") {
		t.Errorf("a descriptor that is not there: code %d, %q", code, out)
	}
}

func TestNoPivot(t *testing.T) {
	b := newBox(t, "sh", "-c", "cd /; cd ../..; ls; sleep 1000")
	b.write()
	id := name(t)
	t.Cleanup(func() { b.run("delete", "--force", id) })
	want := "bin\ndev\nproc\nsys\n"
	if out := b.must("run", "-d", "--no-pivot", "-b", b.bundle, id); out != "" && out != want {
		t.Errorf("run shows %q", out)
	}
	for _, dir := range []string{"/", "/..", "/proc/1/root", "/proc/1/root/.."} {
		if out := b.must("exec", id, "ls", dir); out != want {
			t.Errorf("%s shows %q, not the container's root", dir, out)
		}
	}
}

// TestConfigurationIsThatOfCreate: what changes in the bundle later is without effect.
func TestConfigurationIsThatOfCreate(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	b.spec.Process.Env = append(b.spec.Process.Env, "WHEN=create")
	id := name(t)
	b.up(id)
	b.spec.Process.Env = []string{"WHEN=later"}
	b.spec.Process.NoNewPrivileges = false
	b.write()
	if out := b.must("exec", id, "sh", "-c", "echo $WHEN"); out != "create\n" {
		t.Errorf("exec uses the changed configuration: %q", out)
	}
	if err := os.Remove(filepath.Join(b.bundle, "config.json")); err != nil {
		t.Fatal(err)
	}
	b.must("exec", id, "true")
}

func TestExecOptions(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	b.spec.Process.NoNewPrivileges = false
	id := name(t)
	b.up(id)
	for want, args := range map[string][]string{
		"gid=7 groups=8,9":          {"-u", "6:7", "-g", "8", "-g", "9", id, "id"},
		"NoNewPrivs:\t1":            {"--no-new-privs", id, "cat", "/proc/self/status"},
		"NoNewPrivs:\t0":            {id, "cat", "/proc/self/status"},
		"CapBnd:\t00000000":         {id, "cat", "/proc/self/status"},
		"CapEff:\t0000000420000420": {"-c", "CAP_SYSLOG", id, "cat", "/proc/self/status"}, // bit 34, beside AUDIT_WRITE, NET_BIND_SERVICE and KILL
		"AppArmor profile":          {"--apparmor", "nobody-has-this-profile", id, "true"},
		"SELinux label":             {"--process-label", "a:b:c:d", id, "true"},
		"cgroup \"nosuch\"":         {"--cgroup", "nosuch", id, "true"},
	} {
		if out, _ := b.run(append([]string{"exec"}, args...)...); !strings.Contains(out, want) {
			t.Errorf("exec %v: %q, without %q", args, out, want)
		}
	}
	b.must("pause", id)
	if out, code := b.run("exec", id, "true"); code != 255 || !strings.Contains(out, "paused") {
		t.Errorf("exec in a paused container: code %d, %q", code, out)
	}
	b.must("resume", id)
	process := filepath.Join(t.TempDir(), "process.json")
	text, _ := json.Marshal(specs.Process{Args: []string{"sh", "-c", "pwd; exit 5"}, Cwd: "/bin", Env: []string{"PATH=/bin"}})
	if err := os.WriteFile(process, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := b.run("exec", "-p", process, id); out != "/bin\n" || code != 5 {
		t.Errorf("exec -p: code %d, %q", code, out)
	}
}

// TestSeccompListener: the agent that the configuration names gets the listener and the state of the process.
func TestSeccompListener(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo started; chmod 0700 /bin; echo $?")
	path := filepath.Join(testkit.ShortTempDir(t), "agent")
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: path, ListenerMetadata: "about it",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"chmod", "fchmodat", "fchmodat2"}, Action: specs.ActNotify}}}
	id := name(t)
	b.write()
	if out, code := b.run("create", "-b", b.bundle, id); code != 1 || !strings.Contains(out, path) {
		t.Errorf("nobody listens: code %d, %q", code, out)
	}
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := unix.Bind(l, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l, 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.run("delete", "--force", id) })
	b.must("create", "-b", b.bundle, id)
	c, _, err := unix.Accept(l)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c)
	text, oob := make([]byte, 4096), make([]byte, 64)
	n, oobn, _, _, err := unix.Recvmsg(c, text, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		t.Fatal(msgs, err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	defer unix.Close(fds[0])
	var state specs.ContainerProcessState
	if err := json.Unmarshal(text[:n], &state); err != nil {
		t.Fatal(err)
	}
	if state.Metadata != "about it" || state.State.ID != id || state.Pid != b.status(id).Pid || len(state.Fds) != 1 || state.Fds[0] != specs.SeccompFdName {
		t.Errorf("the agent reads %+v", state)
	}
	b.must("start", id)
	poll := []unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 10000); n != 1 || err != nil || poll[0].Revents&unix.POLLIN == 0 {
		t.Errorf("no notification of chmod: %d %v %+v", n, err, poll)
	}
}

// TestWaitingInitIsHidden: who shares a PID namespace with a container that waits for its start cannot reach into
// its first process, even with the same rights.
func TestWaitingInitIsHidden(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	first := name(t)
	b.up(first)
	second := first + "-2"
	for i, n := range b.spec.Linux.Namespaces {
		if n.Type == specs.PIDNamespace {
			b.spec.Linux.Namespaces[i].Path = "/proc/" + itoa(b.status(first).Pid) + "/ns/pid"
		}
	}
	b.write()
	t.Cleanup(func() { b.run("delete", "--force", second) })
	b.must("create", "-b", b.bundle, second)
	script := `for p in /proc/[0-9]*; do case "$(cat $p/comm)" in *gantry-init*|*memfd*|[0-9]*) ls -l $p/fd/0 $p/root; echo looked;; esac; done`
	out := b.must("exec", first, "sh", "-c", script+" 2>&1")
	if !strings.Contains(out, "ermission denied") || !strings.Contains(out, "looked") {
		t.Errorf("%q", out)
	}
	b.must("start", second)
	if s := b.status(second); s.Status != specs.StateRunning {
		t.Errorf("%+v", s)
	}
}
