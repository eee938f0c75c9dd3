package runtime_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func initFile(t testing.TB) *os.File { return initWith(t, "") }

// initWith builds gantry-init with further flags for the linker.
func initWith(t testing.TB, flags string) *os.File {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "gantry-init")
	_, none := exec.LookPath("go") // in test/vm, whose kernel is an older one in truth
	if dir := os.Getenv("GANTRY_BIN"); dir != "" && (flags == "" || none != nil) {
		bin = filepath.Join(dir, "gantry-init")
	} else if out, err := goBuild(bin, flags); err != nil {
		t.Fatalf("building gantry-init: %v\n%s", err, out)
	}
	f, err := spawn.MemFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func goBuild(bin, flags string) ([]byte, error) {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w "+flags, "-o", bin, "../cmd/gantry-init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd.CombinedOutput()
}

// rootfs makes a root with busybox, /etc/passwd and /etc/group.
func rootfs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal("these tests need busybox-static: ", err)
	}
	write := func(name string, data []byte, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), data, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("bin/busybox", box, 0o755)
	for _, a := range []string{"sh", "true", "false", "cat", "id", "ls", "mount", "hostname", "readlink", "stat", "echo", "pwd", "env", "touch", "grep", "test", "sleep", "kill", "ps", "cut", "uname", "ionice", "tty", "mknod", "head"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/srv:/bin/sh\n"), 0o644)
	write("etc/group", []byte("root:x:0:\nweb:x:1001:\nextra:x:1002:web\n"), 0o644)
	return dir
}

var dockerCaps = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}

// configuration is like the one that Docker makes for a plain container.
func configuration(t testing.TB, root string, args ...string) *specs.Spec {
	t.Helper()
	s := &specs.Spec{
		Root:     &specs.Root{Path: root},
		Hostname: "box",
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: dockerCaps, Effective: dockerCaps, Permitted: dockerCaps}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777"}},
		},
		Linux: &specs.Linux{
			Namespaces:    []specs.LinuxNamespace{{Type: "mount"}, {Type: "pid"}, {Type: "uts"}, {Type: "ipc"}, {Type: "network"}},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware", "/proc/acpi", "/proc/asound"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	profile, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		t.Fatal(err)
	}
	s.Linux.Seccomp = profile
	return s
}

type result struct {
	out  string
	code int
	err  error
	warn []string
}

func run(t testing.TB, init *os.File, s *specs.Spec, opts runtime.Options) result {
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
	var res result
	proc, err := runtime.Start(p, runtime.Files{Init: init, Stdout: w, Stderr: w}, spawn.Handler{Warning: func(s string) { res.warn = append(res.warn, s) }})
	w.Close()
	res.err = err
	var b bytes.Buffer
	_, _ = io.Copy(&b, r)
	res.out = b.String()
	if proc != nil {
		var st unix.WaitStatus
		_, _ = unix.Wait4(proc.PID, &st, 0, nil)
		res.code = st.ExitStatus()
		if st.Signaled() {
			res.code = 128 + int(st.Signal())
		}
		unix.Close(proc.PIDFD)
	}
	return res
}

func TestContainerRuns(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "sh", "-c", "echo pid $$; hostname; id; ls /dev; cat /proc/kcore | grep -c .; echo x >/proc/sys/kernel/domainname; exit 7")
	res := run(t, init, s, runtime.Options{SetHome: true})
	if res.err != nil || res.code != 7 {
		t.Fatalf("code %d, error %v\n%s", res.code, res.err, res.out)
	}
	for _, want := range []string{"pid 1\n", "box\n", "uid=0(root) gid=0(root)", "urandom", "Read-only file system"} {
		if !strings.Contains(res.out, want) {
			t.Errorf("output lacks %q:\n%s", want, res.out)
		}
	}
}

func TestUserByName(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "sh", "-c", "id; echo $HOME")
	res := run(t, init, s, runtime.Options{UserString: "web"})
	if res.err != nil || !strings.Contains(res.out, "uid=1000(web) gid=1001(web) groups=1001(web),1002(extra)") || !strings.Contains(res.out, "/srv\n") {
		t.Errorf("error %v, output %q", res.err, res.out)
	}
	res = run(t, init, s, runtime.Options{UserString: "nobody9"})
	if res.err == nil || res.err.Error() != "unable to find user nobody9: no matching entries in passwd file" {
		t.Errorf("error %v", res.err)
	}
}

func TestMissingCommand(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	res := run(t, init, configuration(t, root, "nosuch"), runtime.Options{})
	if res.err == nil || res.err.Error() != `exec: "nosuch": executable file not found in $PATH` {
		t.Errorf("error %v", res.err)
	}
}

func TestStayInit(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	res := run(t, init, configuration(t, root, "sh", "-c", "echo pid $$; exit 5"), runtime.Options{UseInit: true})
	if res.err != nil || res.code != 5 || !strings.HasPrefix(res.out, "pid ") || res.out == "pid 1\n" {
		t.Errorf("code %d error %v output %q", res.code, res.err, res.out)
	}
}

// A program that ends at once must not be missed, nor may the fork hang: both were matters of luck once.
func TestStayInitOfShortPrograms(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	for i := range 40 {
		if res := run(t, init, configuration(t, root, "false"), runtime.Options{UseInit: true}); res.err != nil || res.code != 1 {
			t.Fatalf("run %d: code %d error %v output %q", i, res.code, res.err, res.out)
		}
	}
}

func TestCapabilityWithheldByTheHost(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	t.Run("withheld", func(t *testing.T) { // a thread of its own, which ends with the capability it has lost
		goruntime.LockOSThread()
		_ = unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_RESOURCE, 0, 0, 0)
		if hostHas() {
			t.Fatal("the capability cannot be withheld")
		}
		s := configuration(t, root, "true")
		s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_SYS_RESOURCE")
		s.Process.Capabilities.Permitted = s.Process.Capabilities.Bounding
		if res := run(t, init, s, runtime.Options{}); res.err == nil || !strings.Contains(res.err.Error(), "CAP_SYS_RESOURCE") {
			t.Errorf("error %v", res.err)
		}
		if res := run(t, init, s, runtime.Options{CapPolicy: runtime.CapsAvailable}); res.err != nil || len(res.warn) != 1 {
			t.Errorf("error %v, warnings %q", res.err, res.warn)
		}
	})
}

func hostHas() bool {
	b, _ := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0)
	return b == 1
}

func BenchmarkRun(b *testing.B) {
	init, root := initFile(b), rootfs(b)
	base := b.TempDir()
	up, work := filepath.Join(base, "up"), filepath.Join(base, "work")
	_ = os.Mkdir(up, 0o755)
	_ = os.Mkdir(work, 0o755)
	p, err := runtime.Compile(configuration(b, "", "true"), runtime.Options{Rootfs: runtime.Rootfs{Lower: []string{root}, Upper: up, Work: work}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		proc, err := runtime.Start(p, runtime.Files{Init: init}, spawn.Handler{})
		if err != nil {
			b.Fatal(err)
		}
		_, _ = unix.Wait4(proc.PID, nil, 0, nil)
		unix.Close(proc.PIDFD)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
