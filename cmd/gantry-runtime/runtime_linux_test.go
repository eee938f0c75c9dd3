package main

import (
	"encoding/json"
	"errors"
	"os"

	"path/filepath"

	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestRunGivesOutputAndExitCode(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo hello; exit 7")
	b.write()
	out, code := b.run("run", "--bundle", b.bundle, name(t))
	if out != "hello\n" || code != 7 {
		t.Fatalf("output %q, code %d", out, code)
	}
	if out := b.must("list", "-q"); out != "" {
		t.Fatalf("run left %q", out)
	}
}

func TestLifeCycle(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	b.spec.Annotations = map[string]string{"org.example": "yes"}
	id := name(t)
	b.up(id)
	s := b.status(id)
	if s.Status != specs.StateRunning || s.Annotations["org.example"] != "yes" || s.Bundle != b.bundle {
		t.Fatalf("state %+v", s)
	}
	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{"start", id}, "not created"}, {[]string{"delete", id}, "it is running"}, {[]string{"create", "-b", b.bundle, id}, "exists already"},
		{[]string{"kill", id, "NOSUCH"}, "not known"}, {[]string{"state", "nobody"}, "does not exist"}, {[]string{"state", "../x"}, "not allowed"},
	} {
		if out, code := b.run(c.args...); code == 0 || !strings.Contains(out, c.text) {
			t.Errorf("%v: code %d, %q", c.args, code, out)
		}
	}
	b.must("pause", id)
	if s := b.status(id); s.Status != statePaused {
		t.Fatalf("after pause: %s", s.Status)
	}
	b.must("resume", id)
	b.must("kill", "--all", id, "KILL")
	for b.status(id).Status != specs.StateStopped {
		time.Sleep(10 * time.Millisecond)
	}
	if out, code := b.run("kill", id); code == 0 {
		t.Fatalf("killing a stopped container: %s", out)
	}
	b.must("delete", id)
	if _, code := b.run("state", id); code == 0 {
		t.Fatal("it is still there")
	}
	b.must("delete", "--force", id) // nothing to do is no error
}

func TestExec(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	id := name(t)
	b.up(id)
	out, code := b.run("exec", "--cwd", "/bin", "-e", "A=b", "--user", "12:34", id, "sh", "-c", "pwd; echo $A; id -u; id -g; exit 3")
	if out != "/bin\nb\n12\n34\n" || code != 3 {
		t.Fatalf("exec: %q, code %d", out, code)
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	b.must("exec", "-d", "--pid-file", pidFile, id, "sleep", "500")
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	if err := json.Unmarshal([]byte(b.must("ps", "--format", "json", id)), &pids); err != nil || len(pids) != 2 {
		t.Fatalf("ps: %v %v, exec's is %s", pids, err, text)
	}
	if out := b.must("events", "--stats", id); !strings.Contains(out, `"type":"stats"`) {
		t.Fatal(out)
	}
}

// TestHooks checks each hook's moment by the status that it reads.
func TestHooks(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	log := filepath.Join(t.TempDir(), "log")
	h := func(kind string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo " + kind + " $(grep -o '\"status\":\"[a-z]*\"') >> " + log}, Env: []string{"PATH=/bin:/usr/bin"}}}
	}
	b.spec.Hooks = &specs.Hooks{CreateRuntime: h("createRuntime"), CreateContainer: h("createContainer"), Poststart: h("poststart"), Poststop: h("poststop"),
		StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat > /started"}, Env: []string{"PATH=/bin"}}}}
	id := name(t)
	b.up(id)
	b.must("delete", "--force", id)
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := "createRuntime \"status\":\"creating\"\ncreateContainer \"status\":\"creating\"\npoststart \"status\":\"running\"\npoststop \"status\":\"stopped\"\n"
	if string(got) != want {
		t.Fatalf("got\n%swant\n%s", got, want)
	}
	started, err := os.ReadFile(filepath.Join(b.bundle, "rootfs/started"))
	if err != nil || !strings.Contains(string(started), `"status":"created"`) {
		t.Fatalf("startContainer: %s %v", started, err)
	}
}

func TestFailedHookUndoesCreate(t *testing.T) {
	one := 1
	for text, h := range map[string]specs.Hook{
		"exit status 4":         {Path: "/bin/sh", Args: []string{"sh", "-c", "exit 4"}},
		"within 1 seconds":      {Path: "/bin/sleep", Args: []string{"sleep", "100"}, Timeout: &one},
		"no such file or direc": {Path: "/nowhere"},
	} {
		b := newBox(t, "sleep", "1000")
		b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{h}}
		b.write()
		out, code := b.run("create", "-b", b.bundle, name(t))
		if code == 0 || !strings.Contains(out, text) {
			t.Errorf("%s: code %d, %q", text, code, out)
		}
		if left := b.must("list", "-q"); left != "" {
			t.Errorf("%s: left %q", text, left)
		}
	}
}

func TestTerminalGoesToTheConsoleSocket(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo to the terminal; sleep 1000")
	b.spec.Process.Terminal = true
	b.write()
	id := name(t)
	if out, code := b.run("create", "-b", b.bundle, id); code == 0 || !strings.Contains(out, "--console-socket") {
		t.Fatalf("without a socket: code %d, %q", code, out)
	}
	path := filepath.Join(testkit.ShortTempDir(t), "s")
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := errors.Join(unix.Bind(l, &unix.SockaddrUnix{Name: path}), unix.Listen(l, 1)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.run("delete", "--force", id) })
	b.must("create", "-b", b.bundle, "--console-socket", path, id)
	c, _, err := unix.Accept(l)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c)
	oob := make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(c, make([]byte, 64), oob, 0)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		t.Fatal(msgs, err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	b.must("start", id)
	buf := make([]byte, 100)
	got, err := unix.Read(fds[0], buf)
	if err != nil || !strings.Contains(string(buf[:got]), "to the terminal") {
		t.Fatalf("%q %v", buf[:max(got, 0)], err)
	}
}

func TestSystemdPathsAreRefused(t *testing.T) {
	b := newBox(t, "sleep", "1")
	b.spec.Linux.CgroupsPath = "system.slice:gantry:x"
	b.write()
	if out, code := b.run("create", "-b", b.bundle, name(t)); code == 0 || !strings.Contains(out, "systemd") {
		t.Fatalf("code %d, %q", code, out)
	}
}
