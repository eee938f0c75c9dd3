package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

func hook(script string) []specs.Hook {
	return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin:/usr/bin"}}}
}

// TestFailureLeavesNothing lets create fail at each of its stages. That nothing is left is checked at the end of each box.
func TestFailureLeavesNothing(t *testing.T) {
	for stage, c := range map[string]struct {
		change func(b *box)
		args   []string
		want   string
	}{
		"no root":    {change: func(b *box) { b.spec.Root.Path = "nowhere" }, want: "root file system"},
		"no program": {change: func(b *box) { b.spec.Process.Args[0] = "nosuch" }, want: "executable file not found"},
		"no bind source": {change: func(b *box) {
			b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/v", Type: "bind", Source: "/nowhere", Options: []string{"bind"}})
		}, want: "/nowhere"},
		"unknown capability":   {change: func(b *box) { b.spec.Process.Capabilities.Bounding = []string{"CAP_TEST"} }, want: "CAP_TEST"},
		"namespace of no kind": {change: func(b *box) { b.spec.Linux.Namespaces[1].Path = "/proc/self/ns/uts" }, want: "another kind"},
		"limit out of range": {change: func(b *box) {
			n := int64(4096)
			b.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &n}
		}, want: "memory limit"},
		"limit refused by the kernel": {change: func(b *box) { b.spec.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: "4095"} }, want: "cpuset"},
		"createRuntime hook":          {change: func(b *box) { b.spec.Hooks = &specs.Hooks{CreateRuntime: hook("exit 4")} }, want: "exit status 4"},
		"createContainer hook":        {change: func(b *box) { b.spec.Hooks = &specs.Hooks{CreateContainer: hook("exit 4")} }, want: "exit status 4"},
		"console socket":              {change: func(b *box) { b.spec.Process.Terminal = true }, args: []string{"--console-socket", "/nowhere/s"}, want: "/nowhere/s"},
		"console without terminal":    {args: []string{"--console-socket", "/nowhere/s"}, want: "process.terminal is not set"},
		"pid file":                    {args: []string{"--pid-file", "/nowhere/pid"}, want: "/nowhere"},
		"descriptors":                 {args: []string{"--preserve-fds", "3"}, want: "descriptor 3"},
		"no configuration":            {args: []string{"--bundle", "/nowhere"}, want: "config.json"},
	} {
		b := newBox(t, "sleep", "1000")
		if c.change != nil {
			c.change(b)
		}
		b.write()
		out, code := b.run(append([]string{"create", "-b", b.bundle, name(t)}, c.args...)...)
		if code != 1 || !strings.Contains(out, c.want) {
			t.Errorf("%s: code %d, %q", stage, code, out)
		}
		if t.Failed() {
			b.run("delete", "--force", name(t))
		}
		b.nothingLeft()
	}
}

// TestInterruptedCreate: a create that is asked to end undoes what it did; of one that is killed, delete --force finds
// the rest.
func TestInterruptedCreate(t *testing.T) {
	for _, c := range []struct {
		sig    unix.Signal
		inside bool // the container, where init runs the hook
	}{{unix.SIGTERM, false}, {unix.SIGINT, false}, {unix.SIGKILL, false}, {unix.SIGTERM, true}, {unix.SIGKILL, true}} {
		sig := c.sig
		b := newBox(t, "sleep", "1000")
		mark := filepath.Join(t.TempDir(), "mark")
		stopped := filepath.Join(t.TempDir(), "stopped")
		b.spec.Hooks = &specs.Hooks{Poststop: hook("echo yes >>" + stopped)}
		if c.inside {
			b.spec.Hooks.CreateContainer = hook("echo $$ >" + mark + "; exec sleep 1000")
		} else {
			b.spec.Hooks.CreateRuntime = hook("echo $$ >" + mark + "; exec sleep 1000")
		}
		b.write()
		id := name(t)
		cmd := b.command("create", "-b", b.bundle, id)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var hookPID int
		for hookPID == 0 {
			text, _ := os.ReadFile(mark)
			hookPID, _ = strconv.Atoi(strings.TrimSpace(string(text)))
			time.Sleep(time.Millisecond)
		}
		if s := b.status(id); s.Status != specs.StateCreating {
			t.Errorf("while create works: %+v", s)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code == 0 {
			t.Errorf("%v: create succeeded", sig)
		}
		if sig == unix.SIGKILL {
			if !c.inside { // there it has a number of its own, and dies with the container
				_ = unix.Kill(hookPID, unix.SIGKILL)
			}
			b.must("delete", "--force", id)
		}
		if text, err := os.ReadFile(stopped); string(text) != "yes\n" {
			t.Errorf("%v: poststop hooks: %q %v", sig, text, err)
		}
		b.nothingLeft()
	}
}

// TestFailedStart: what keeps the program from running between the gate and exec is told by start, and the container is stopped.
func TestFailedStart(t *testing.T) {
	one := 1
	for want, h := range map[string]specs.Hook{
		"ended with exit status 7": {Path: "/bin/sh", Args: []string{"sh", "-c", "exit 7"}},
		"did not end within 1":     {Path: "/bin/sleep", Args: []string{"sleep", "100"}, Timeout: &one},
		"/nowhere":                 {Path: "/nowhere"},
	} {
		b := newBox(t, "touch", "/ran")
		b.spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{h}}
		b.write()
		id := name(t)
		b.must("create", "-b", b.bundle, id)
		if out, code := b.run("start", id); code != 1 || !strings.Contains(out, want) {
			t.Errorf("start: code %d, %q, not %q", code, out, want)
		}
		if s := b.status(id); s.Status != specs.StateStopped {
			t.Errorf("after a failed start: %+v", s)
		}
		if _, err := os.Stat(filepath.Join(b.bundle, "rootfs/ran")); err == nil {
			t.Error("the program ran")
		}
		b.must("delete", id)
		if out, code := b.run("run", "-b", b.bundle, id); code != 1 || !strings.Contains(out, want) {
			t.Errorf("run: code %d, %q, not %q", code, out, want)
		}
		b.nothingLeft()
	}
}

func TestStartOfTheDead(t *testing.T) {
	b := newBox(t, "true")
	b.write()
	id := name(t)
	b.must("create", "-b", b.bundle, id)
	if out, code := b.run("delete", id); code != 1 || !strings.Contains(out, "not stopped") {
		t.Errorf("delete of a created container: code %d, %q", code, out)
	}
	b.must("kill", id, "KILL")
	for b.status(id).Status != specs.StateStopped {
		time.Sleep(time.Millisecond)
	}
	if out, code := b.run("start", id); code != 1 || !strings.Contains(out, "stopped, not created") {
		t.Errorf("start of a killed container: code %d, %q", code, out)
	}
	if out, code := b.run("kill", id, "KILL"); code != 1 || !strings.Contains(out, "container not running") { // containerd's shim looks for these words
		t.Errorf("kill of a stopped container: code %d, %q", code, out)
	}
	b.must("delete", id)
}

// TestLogFile: callers read the last error from the log, as JSON.
func TestLogFile(t *testing.T) {
	b := newBox(t, "no\x01such\"é")
	b.write()
	log := filepath.Join(t.TempDir(), "log")
	b.run("--log", log, "--log-format", "json", "create", "-b", b.bundle, name(t))
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var entry struct{ Level, Msg, Time string }
	if err := json.Unmarshal(text, &entry); err != nil || entry.Level != "error" || !strings.Contains(entry.Msg, "executable file not found in $PATH") {
		t.Errorf("%s: %+v %v", text, entry, err)
	}
	if _, err := time.Parse(time.RFC3339, entry.Time); err != nil {
		t.Error(err)
	}
}
