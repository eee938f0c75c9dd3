package runtime_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

// overwrite is CVE-2019-5736 as a shell program: it holds the executable of every process that
// appears beside it and writes to it once nobody executes it any more.
const overwrite = `while :; do
  for p in /proc/[0-9]*; do
    [ $p = /proc/1 ] && continue
    exe=$(readlink $p/exe) || continue
    case "$exe" in /bin/*) continue;; esac
    ( exec 9<$p/exe # ends the subshell if it is gone already
      echo "$exe" >>/seen
      n=0
      while [ $n -lt 40 ]; do n=$((n+1)); { echo owned >/proc/self/fd/9; } && break; done )
  done
done 2>/dev/null`

// attack runs further processes in a container whose PID 1 is out to overwrite what they are started with.
// It gives what the attacker held, a line each time, and stops when that was enough times or the file's content changed.
func attack(t *testing.T, init *os.File, enough int, changed func() bool) (seen string) {
	t.Helper()
	root := rootfs(t)
	caps := append([]string{"CAP_SYS_PTRACE"}, dockerCaps...) // what lets it look at others at all
	s := configuration(t, root, "sh", "-c", overwrite)
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	s.Linux.Seccomp = nil
	target := background(t, init, s)
	flags := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		s := configuration(t, root, "true")
		if _, _, err := execIn(t, init, target.PIDFD, flags, s); err != nil {
			t.Log("no more can be started: ", err) // once the file was overwritten
			break
		}
		b, _ := os.ReadFile(filepath.Join(root, "seen"))
		if seen = string(b); changed() || strings.Count(seen, "\n") >= enough {
			break
		}
	}
	return seen
}

// CVE-2019-5736: the program that starts processes in a container is reached from there through
// /proc/…/exe. As an ordinary file it is overwritten; neither as a sealed memory file nor as the fall-back is it.
func TestExecutableIsNotOverwritten(t *testing.T) {
	good, err := io.ReadAll(io.NewSectionReader(initFile(t), 0, 64<<20))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "gantry-init")
	intact := func(f *os.File) bool {
		now, err := io.ReadAll(io.NewSectionReader(f, 0, 64<<20))
		return err == nil && bytes.Equal(now, good)
	}
	open := func(how func(string) (*os.File, error)) *os.File {
		if err := os.WriteFile(path, good, 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := how(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	t.Run("sealed", func(t *testing.T) {
		f := open(spawn.MemFile)
		seen := attack(t, f, 5, func() bool { return !intact(f) })
		if seen == "" || !intact(f) {
			t.Errorf("the attacker held %q, gantry-init intact: %v", seen, intact(f))
		}
	})
	t.Run("ordinary", func(t *testing.T) {
		f := open(os.Open)
		if attack(t, f, 1<<30, func() bool { return !intact(f) }); intact(f) {
			t.Error("the attack did not succeed: the other parts of this test show nothing")
		}
	})
}

// Where the kernel forbids executable memory files (vm.memfd_noexec = 2) gantry-init is executed from a
// private read-only mount of its file, which cannot be written through either.
func TestWithoutMemoryFiles(t *testing.T) {
	const child = "GANTRY_TEST_NOMEMFD"
	if os.Getenv(child) == "" {
		if _, err := os.Stat("/proc/sys/vm/memfd_noexec"); err != nil {
			t.Skip("the kernel cannot forbid executable memory files")
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestWithoutMemoryFiles$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS} // the setting belongs to a PID namespace
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestWithoutMemoryFiles") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for _, err := range []error{
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, ""),
		os.WriteFile("/proc/sys/vm/memfd_noexec", []byte("2"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	init := initFile(t)
	if link, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(init.Fd()))); strings.Contains(link, "memfd") {
		t.Fatalf("it is %s all the same", link)
	}
	res := run(t, init, configuration(t, rootfs(t), "echo", "runs"), runtime.Options{})
	if res.err != nil || res.out != "runs\n" {
		t.Errorf("error %v, output %q", res.err, res.out)
	}
	before, err := io.ReadAll(io.NewSectionReader(init, 0, 64<<20))
	if err != nil {
		t.Fatal(err)
	}
	seen := attack(t, init, 5, func() bool { return false })
	if after, err := io.ReadAll(io.NewSectionReader(init, 0, 64<<20)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("gantry-init was overwritten (%v)", err)
	}
	if seen == "" {
		t.Error("the attacker never held it")
	}
	if w, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(init.Fd())), os.O_WRONLY, 0); err == nil {
		w.Close()
		t.Error("it can be opened for writing")
	}
}
