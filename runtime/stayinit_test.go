package runtime_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

// With gantry-init as PID 1 each of its threads has the rights of the container's process and no more: whoever may
// trace in the container can take any of them over.
func TestStayInitKeepsNoRights(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	for _, tt := range []struct {
		name   string
		change func(*specs.Spec)
		want   map[string]string
	}{
		{"default", func(*specs.Spec) {}, map[string]string{"Uid": "0 0 0 0", "Gid": "0 0 0 0", "NoNewPrivs": "0", "Seccomp": "2"}},
		{"user", func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1002}}
			s.Process.NoNewPrivileges = true
		}, map[string]string{"Uid": "1000 1000 1000 1000", "Gid": "1001 1001 1001 1001", "Groups": "1002", "NoNewPrivs": "1", "Seccomp": "2"}},
		{"no filter", func(s *specs.Spec) {
			s.Process.NoNewPrivileges, s.Linux.Seccomp = true, nil
		}, map[string]string{"Uid": "0 0 0 0", "NoNewPrivs": "1", "Seccomp": "0"}},
	} {
		s := configuration(t, root, "sleep", "1000")
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "cgroup"})
		tt.change(s)
		p, err := runtime.Compile(s, runtime.Options{UseInit: true})
		if err != nil {
			t.Fatal(err)
		}
		proc, err := runtime.Start(p, runtime.Files{Init: init}, spawn.Handler{})
		if err != nil {
			t.Fatal(err)
		}
		tasks, err := filepath.Glob("/proc/" + strconv.Itoa(proc.PID) + "/task/*")
		if err != nil || len(tasks) == 0 {
			t.Error(tasks, err)
		}
		allowed := uint64(0)
		for _, name := range dockerCaps {
			for n, known := range runtime.CapabilityNames() {
				if known == name {
					allowed |= 1 << n
				}
			}
		}
		for _, task := range tasks {
			status := map[string]string{}
			for line := range strings.Lines(readFile(t, task+"/status")) {
				k, v, _ := strings.Cut(line, ":")
				status[k] = strings.Join(strings.Fields(v), " ")
			}
			for k, v := range tt.want {
				if status[k] != v {
					t.Errorf("%s: %s has %s %q, want %q", tt.name, task, k, status[k], v)
				}
			}
			for _, set := range []string{"CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"} {
				if have, err := strconv.ParseUint(status[set], 16, 64); err != nil || have&^allowed != 0 {
					t.Errorf("%s: %s has %s %s, more than %x (%v)", tt.name, task, set, status[set], allowed, err)
				}
			}
			if link, err := os.Readlink(task + "/root"); err != nil || link != "/" {
				t.Errorf("%s: %s has the root %s (%v)", tt.name, task, link, err)
			}
			for _, ns := range []string{"mnt", "pid", "net", "cgroup", "user", "time"} {
				own, err := os.Readlink(task + "/ns/" + ns)
				if first := namespace(t, proc.PID, ns); err != nil || own != first {
					t.Errorf("%s: %s is in %s, the first thread in %s (%v)", tt.name, task, own, first, err)
				}
			}
		}
		_ = unix.PidfdSendSignal(proc.PIDFD, unix.SIGKILL, nil, 0)
		_, _ = unix.Wait4(proc.PID, nil, 0, nil)
		unix.Close(proc.PIDFD)
	}
}

// PID 1 has a name that says what it is and shows what it runs, and the program its own.
func TestStayInitName(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "sh", "-c", "cat /proc/1/comm /proc/self/comm; test $$ -gt 1 && cut -d' ' -f4 /proc/$$/stat; tr '\\0' ' ' </proc/1/cmdline | sed 's/[0-9:]* -- .* with/N -- … with/'", "with", "", "words")
	if res := run(t, init, s, runtime.Options{UseInit: true}); res.err != nil || res.out != "gantry-init\ncat\n1\ngantry-init N -- … with  words " {
		t.Errorf("error %v, output %q", res.err, res.out)
	}
}

// gantry-init as PID 1 works with filters of a time before execveat, with a terminal, user and time namespaces
// and hooks.
func TestStayInitWithEverything(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "sh", "-c", "readlink /proc/self/ns/time; cut -c1-3 /proc/uptime; id -u; ulimit -Sn")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "time"})
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 10_000_000}}
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 77, Hard: 99}}
	s.Process.User = specs.User{UID: 1000, GID: 1001}
	old := *s.Linux.Seccomp
	old.Syscalls = nil
	for _, rule := range s.Linux.Seccomp.Syscalls {
		rule.Names = slices.DeleteFunc(slices.Clone(rule.Names), func(n string) bool { return n == "execveat" || n == "memfd_create" || n == "clone3" })
		if len(rule.Names) > 0 {
			old.Syscalls = append(old.Syscalls, rule)
		}
	}
	s.Linux.Seccomp = &old
	s.Process.NoNewPrivileges = true
	res := run(t, init, s, runtime.Options{UseInit: true})
	if f := strings.Fields(res.out); res.err != nil || len(f) != 4 || f[1] != "100" || f[2] != "1000" || f[3] != "77" {
		t.Errorf("an old filter: error %v, output %q", res.err, res.out)
	}
	s = userns(t, configuration(t, root, "sh", "-c", "id -u; test $$ != 1 && grep -c gantry-init /proc/1/cmdline; cat /proc/self/oom_score_adj"))
	s.Process.OOMScoreAdj = ptrTo(10)
	if res := run(t, init, s, runtime.Options{UseInit: true}); res.err != nil || res.out != "0\n1\n10\n" {
		t.Errorf("user namespace: error %v, output %q", res.err, res.out)
	}
	s = configuration(t, root, "sh", "-c", "test -t 0 && echo x >/dev/tty && cut -d' ' -f5,8 /proc/self/stat | { read group front; test $group = $front && echo front; }")
	s.Process.Terminal = true
	p, err := runtime.Compile(s, runtime.Options{UseInit: true})
	if err != nil {
		t.Fatal(err)
	}
	var master *os.File
	proc, err := runtime.Start(p, runtime.Files{Init: init}, spawn.Handler{Terminal: func(fd int) error {
		master = os.NewFile(uintptr(fd), "ptmx")
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(master)
	master.Close()
	_, _ = unix.Wait4(proc.PID, nil, 0, nil)
	unix.Close(proc.PIDFD)
	if string(out) != "x\r\nfront\r\n" {
		t.Errorf("terminal: output %q", out)
	}
	s = configuration(t, root, "echo", "program")
	s.Process.ApparmorProfile = "nosuch"
	if res := run(t, init, s, runtime.Options{UseInit: true}); res.err == nil || !strings.Contains(res.err.Error(), "AppArmor profile") {
		t.Errorf("a label that cannot be applied: error %v, output %q", res.err, res.out)
	}
	if res := run(t, init, configuration(t, root, "/etc/passwd"), runtime.Options{UseInit: true}); res.err == nil {
		t.Errorf("what cannot be executed: output %q", res.out)
	}
}
