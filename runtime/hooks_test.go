package runtime_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/program"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

// withHooks runs a container whose hooks are answered with a state, through the gate if there is one.
func withHooks(t *testing.T, init *os.File, s *specs.Spec, point func(int, *spawn.Process) ([]byte, error)) result {
	t.Helper()
	p, err := runtime.Compile(s, runtime.Options{HostHooks: true, Gate: true})
	if err != nil {
		t.Fatal(err)
	}
	var pipes [4]*os.File
	for i := 0; i < 4; i += 2 {
		if pipes[i], pipes[i+1], err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
		defer pipes[i].Close()
	}
	cfg := &spawn.Config{Program: p.Init, Facts: p.Facts, Init: init, Gate: int(pipes[2].Fd()), NetNS: -1, TargetPIDFD: -1,
		Stdio: [3]int{int(pipes[1].Fd()), int(pipes[1].Fd()), int(pipes[1].Fd())}}
	proc, err := spawn.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	pipes[1].Close()
	res := result{err: proc.Run(spawn.Handler{
		Hook: func(n int) ([]byte, error) { return point(n, proc) },
		Ready: func() bool {
			_, err := pipes[3].Write([]byte{0})
			return err != nil
		},
	})}
	var b bytes.Buffer
	_, _ = io.Copy(&b, pipes[0])
	var st unix.WaitStatus
	_, _ = unix.Wait4(proc.PID, &st, 0, nil)
	unix.Close(proc.PIDFD)
	res.out, res.code = b.String(), st.ExitStatus()
	return res
}

func shellHook(text string) []specs.Hook {
	return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", text}, Env: []string{"PATH=/bin:/usr/bin", "OWN=1"}}}
}

// Hooks run in their order, where they belong and with the state: the caller's when the namespaces are there and the
// root is not, createContainer in the container's namespaces with the host's files, startContainer with the container's.
func TestHooks(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	log := filepath.Join(t.TempDir(), "log")
	s := configuration(t, root, "sh", "-c", "echo program; cat /tmp/log")
	s.Hooks = &specs.Hooks{
		CreateContainer: shellHook(`{ cat; echo " $OWN $(hostname) $(test -e ` + root + `/bin/busybox && echo host)"; env | grep -c .; } >>` + log),
		StartContainer:  shellHook(`{ cat; echo " $OWN $(hostname) $(test -e ` + root + ` || echo container)"; } >>/tmp/log`),
	}
	var points []int
	res := withHooks(t, init, s, func(point int, p *spawn.Process) ([]byte, error) {
		points = append(points, point)
		if point == program.HookCreateRuntime {
			if own, here := namespace(t, p.PID, "uts"), namespace(t, os.Getpid(), "uts"); own == here {
				t.Error("createRuntime hooks run before the namespaces are there")
			}
			if link, _ := os.Readlink("/proc/self/root"); link != "/" {
				t.Error("the root is ", link)
			}
		}
		return []byte("state" + string(rune('0'+point))), nil
	})
	if res.err != nil || res.out != "program\nstate3 1 box container\n" {
		t.Errorf("error %v, output %q", res.err, res.out)
	}
	if b := readFile(t, log); b != "state1 1 box host\n3\n" { // PATH, OWN and the shell's PWD
		t.Errorf("createContainer wrote %q", b)
	}
	if len(points) != 2 || points[0] != program.HookCreateRuntime || points[1] != program.HookStartContainer {
		t.Errorf("points %v", points)
	}
}

// A hook that fails, is missing, hangs or is killed keeps the program from running and is named.
func TestHookFailures(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	one := 1
	bad := map[string]struct {
		hook specs.Hook
		text string
	}{
		"exit 3":  {specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "exit 3"}}, "hook /bin/sh ended with exit status 3"},
		"killed":  {specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "kill -9 $$"}}, "hook /bin/sh was killed by signal 9"},
		"missing": {specs.Hook{Path: "/nosuch/hook"}, "hook /nosuch/hook: no such file"},
		"hangs":   {specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "while :; do :; done"}, Timeout: &one}, "did not end within 1 seconds"},
	}
	for name, tt := range bad {
		for _, kind := range []string{"createContainer", "startContainer"} {
			s := configuration(t, root, "echo", "program")
			if kind == "createContainer" {
				s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{tt.hook}}
			} else {
				s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{tt.hook}}
			}
			res := withHooks(t, init, s, func(int, *spawn.Process) ([]byte, error) { return []byte("{}"), nil })
			if res.err == nil || !strings.Contains(res.err.Error(), tt.text) || strings.Contains(res.out, "program") {
				t.Errorf("%s %s: error %v, want %q; output %q", kind, name, res.err, tt.text, res.out)
			}
		}
	}
	why := errors.New("the network is not ready")
	s := configuration(t, root, "echo", "program")
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/caller's"}}}
	res := withHooks(t, init, s, func(int, *spawn.Process) ([]byte, error) { return nil, why })
	if res.err == nil || !strings.Contains(res.err.Error(), why.Error()) || res.out != "" {
		t.Errorf("createRuntime: error %v, output %q", res.err, res.out)
	}
	zero := 0
	for _, h := range []specs.Hook{{Path: "relative"}, {Path: "/bin/true", Timeout: &zero}} {
		s := configuration(t, root, "true")
		s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{h}}
		if _, err := runtime.Compile(s, runtime.Options{HostHooks: true}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// A state longer than a pipe takes arrives whole, and a hook that does not read it still ends with its time.
func TestLongState(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "echo", "program")
	s.Hooks = &specs.Hooks{CreateContainer: append(shellHook("true"), shellHook(`test $(wc -c) = 500000`)...)}
	long := func(int, *spawn.Process) ([]byte, error) { return bytes.Repeat([]byte("x"), 500000), nil }
	if res := withHooks(t, init, s, long); res.err != nil || res.out != "program\n" {
		t.Errorf("error %v, output %q", res.err, res.out)
	}
	one := 1
	s.Hooks.CreateContainer = shellHook("exec sleep 15")
	s.Hooks.CreateContainer[0].Timeout = &one
	begun := time.Now()
	if res := withHooks(t, init, s, long); res.err == nil || !strings.Contains(res.err.Error(), "did not end within 1 seconds") || time.Since(begun) > 10*time.Second {
		t.Errorf("after %v: error %v", time.Since(begun), res.err)
	}
}
