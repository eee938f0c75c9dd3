package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// state reads a container's field of inspect.
func state(t *testing.T, e *testkit.Engine, name, field string) string {
	t.Helper()
	return e.Must(t, "inspect", "-f", "{{.State."+field+"}}", name)
}

// told are the events of a container, oldest first, as far as the daemon keeps them in mind.
func told(t *testing.T, e *testkit.Engine, name string) []string {
	t.Helper()
	until := time.Now().UTC().Format(time.RFC3339Nano)
	out := e.Must(t, "events", "--since", "1", "--until", until, "--filter", "container="+name, "--format", "{{.Action}}")
	return strings.Split(out, "\n")
}

// become waits until a container's state reads so.
func become(t *testing.T, e *testkit.Engine, name, field, want string) {
	t.Helper()
	for range 200 {
		if state(t, e, name, field) == want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s: %s did not become %s", name, field, want)
}

// count is how often an event was told.
func count(events []string, action string) (n int) {
	for _, e := range events {
		if e == action {
			n++
		}
	}
	return n
}

// What the kernel kills for want of memory is told, by exit code, inspect and events: the container itself,
// a child of it, and an exec, also while no daemon runs.
func TestKilledForWantOfMemory(t *testing.T) {
	e := engine(t)
	start := func(name string, cmd ...string) {
		t.Helper()
		e.Must(t, append([]string{"run", "-d", "--memory", "16m", "--memory-swap", "16m", "--name", name, "bb"}, cmd...)...)
	}
	if _, _, code := e.Docker("run", "--name", "itself", "--memory", "16m", "--memory-swap", "16m", "bb", "tail", "/dev/zero"); code != 137 {
		t.Errorf("the container ended with %d", code)
	}
	if killed, code := state(t, e, "itself", "OOMKilled"), state(t, e, "itself", "ExitCode"); killed != "true" || code != "137" {
		t.Errorf("the container itself: OOMKilled %s, exit code %s", killed, code)
	}
	if a := told(t, e, "itself"); count(a, "oom") != 1 || slices.Index(a, "oom") > slices.Index(a, "die") {
		t.Errorf("the container itself: events %q", a)
	}

	start("child", "sh", "-c", "tail /dev/zero; echo $? >/code; exec sleep 600")
	become(t, e, "child", "OOMKilled", "true")
	if s := state(t, e, "child", "Status"); s != "running" {
		t.Errorf("the child's container is %s", s)
	}
	if a := told(t, e, "child"); count(a, "oom") != 1 || count(a, "die") != 0 {
		t.Errorf("a child: events %q", a)
	}
	if code := e.Must(t, "exec", "child", "cat", "/code"); code != "137" {
		t.Errorf("the child ended with %s", code)
	}
	for n := range 2 { // execs, each of them
		if _, _, code := e.Docker("exec", "child", "tail", "/dev/zero"); code != 137 {
			t.Errorf("the exec ended with %d", code)
		}
		for try := 0; try < 100 && count(told(t, e, "child"), "oom") < n+2; try++ {
			time.Sleep(20 * time.Millisecond)
		}
		if a := told(t, e, "child"); count(a, "oom") != n+2 {
			t.Errorf("an exec: events %q", a)
		}
	}

	start("alone", "sh", "-c", "while ! test -e /now; do sleep 0.1; done; tail /dev/zero; touch /done; exec sleep 600")
	start("fine", "sleep", "600")
	e.Must(t, "exec", "alone", "sh", "-c", "(sleep 1; touch /now) >/dev/null 2>&1 &")
	e.Kill()
	time.Sleep(2 * time.Second)
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	e.Must(t, "exec", "alone", "ls", "/done")
	e.Must(t, "exec", "alone", "rm", "/now") // for when it is started again
	become(t, e, "alone", "OOMKilled", "true")
	if a := told(t, e, "alone"); count(a, "oom") != 1 {
		t.Errorf("without a daemon: events %q", a)
	}
	e.Must(t, "kill", "alone", "child", "fine")
	for name, events := range map[string]int{"alone": 1, "child": 0, "fine": 0} { // the events before were the former daemon's
		if a := told(t, e, name); count(a, "oom") != events {
			t.Errorf("%s at its end: events %q", name, a)
		}
		if killed, want := state(t, e, name, "OOMKilled"), map[bool]string{true: "false", false: "true"}[name == "fine"]; killed != want {
			t.Errorf("%s at its end: OOMKilled %s", name, killed)
		}
	}
	e.Must(t, "start", "alone")
	if killed := state(t, e, "alone", "OOMKilled"); killed != "false" {
		t.Errorf("started again: OOMKilled %s", killed)
	}
}
