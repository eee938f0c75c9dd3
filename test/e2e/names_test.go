package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// dig asks 127.0.0.11 inside a container and gives the answers, sorted, or the code that is none.
func dig(t *testing.T, e *testkit.Engine, container string, args ...string) string {
	t.Helper()
	return digIn(t, e.Must(t, "inspect", "-f", "{{.State.Pid}}", container), args...)
}

func digIn(t *testing.T, pid string, args ...string) string {
	t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--net=/proc/" + pid + "/ns/net", "dig", "@127.0.0.11", "+tries=1", "+time=5", "+noall", "+answer", "+comments"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 5 && !strings.HasPrefix(f[0], ";"):
			found = append(found, strings.Join(f[4:], " "))
		case strings.Contains(line, "status: ") && !strings.Contains(line, "NOERROR"):
			_, status, _ := strings.Cut(line, "status: ")
			status, _, _ = strings.Cut(status, ",")
			return status
		}
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

// Who is on a network is found by its names there: over UDP and TCP, in both families, and backwards; by nobody else.
func TestNamesOnNetworks(t *testing.T) {
	e := engine(t)
	e.Must(t, "network", "create", "--subnet", "10.231.1.0/24", "--ipv6", "--subnet", "fd00:231:1::/64", "front")
	e.Must(t, "network", "create", "--subnet", "10.231.2.0/24", "--internal", "back")
	run := func(name string, args ...string) {
		t.Helper()
		e.Must(t, append(append([]string{"run", "-d", "--name", name}, args...), "bb", "sleep", "600")...)
	}
	run("web", "--network", "front", "--ip", "10.231.1.10", "--ip6", "fd00:231:1::10", "--network-alias", "app")
	run("web2", "--network", "front", "--ip", "10.231.1.11", "--ip6", "fd00:231:1::11", "--network-alias", "app")
	run("db", "--network", "back", "--ip", "10.231.2.20")
	want := func(answer, container string, args ...string) {
		t.Helper()
		if got := dig(t, e, container, args...); got != answer {
			t.Errorf("%s asks %v: %q, want %q", container, args, got, answer)
		}
	}
	short := e.Must(t, "inspect", "-f", "{{slice .Id 0 12}}", "web2")
	for _, way := range []string{"+notcp", "+tcp"} {
		want("10.231.1.11", "web", way, "web2")
		want("10.231.1.11", "web", way, "WEB2.front")
		want("10.231.1.11", "web", way, short)
		want("10.231.1.10 10.231.1.11", "web2", way, "app")
		want("fd00:231:1::10 fd00:231:1::11", "web2", way, "AAAA", "app")
		want("web2.front.", "web", way, "-x", "10.231.1.11")
		want("web2.front.", "web", way, "-x", "fd00:231:1::11")
		want("", "web", way, "MX", "web2")
	}
	want("", "db", "AAAA", "db")
	want("NXDOMAIN", "db", "web2") // an internal network's containers ask nobody outside
	want("NXDOMAIN", "db", "example.com")
	if out := e.Must(t, "exec", "web", "ping", "-c1", "-w5", "web2"); !strings.Contains(out, "10.231.1.11") && !strings.Contains(out, "fd00:231:1::11") {
		t.Errorf("libc's own resolver: %s", out)
	}
	// coming and going is seen at once
	e.Must(t, "network", "connect", "--alias", "store", "--ip", "10.231.2.10", "back", "web")
	want("10.231.2.20", "web", "db")
	want("10.231.2.10", "db", "store")
	want("10.231.2.10", "db", "web.back")
	e.Must(t, "network", "disconnect", "back", "web")
	want("NXDOMAIN", "db", "store")
	e.Must(t, "rename", "web2", "other")
	want("10.231.1.11", "web", "other")
	e.Must(t, "rm", "-f", "other")
	want("10.231.1.10", "web", "app")
	e.Must(t, "restart", "-t0", "web")
	want("10.231.1.10", "web", "web.front")
}

// Lookups go on while gantryd is down, and come back after gantry-net was killed, alone or with gantryd.
func TestNamesSurvive(t *testing.T) {
	e := engine(t)
	e.Must(t, "network", "create", "--subnet", "10.232.1.0/24", "front")
	for i, name := range []string{"one", "two"} {
		e.Must(t, "run", "-d", "--name", name, "--network", "front", "--ip", fmt.Sprintf("10.232.1.1%d", i), "bb", "sleep", "600")
	}
	one := e.Must(t, "inspect", "-f", "{{.State.Pid}}", "one")
	kill := func() int {
		t.Helper()
		for pid, cmd := range e.Processes() {
			if strings.Contains(strings.Fields(cmd)[0], "gantry-net") {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				return pid
			}
		}
		t.Fatal("no gantry-net runs")
		return 0
	}
	answered := func(when string) {
		t.Helper()
		for range 100 {
			if digIn(t, one, "+time=1", "two") == "10.232.1.11" {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Errorf("%s: %s", when, digIn(t, one, "two"))
	}
	e.Kill()
	for _, way := range []string{"+notcp", "+tcp"} {
		if got := digIn(t, one, way, "two"); got != "10.232.1.11" {
			t.Errorf("without gantryd, %s: %s", way, got)
		}
	}
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	answered("after the restart of gantryd")
	e.Must(t, "run", "-d", "--name", "three", "--network", "front", "--ip", "10.232.1.12", "bb", "sleep", "600")
	if got := digIn(t, one, "three"); got != "10.232.1.12" {
		t.Errorf("a container of the new gantryd: %s", got)
	}
	kill()
	answered("after gantry-net was killed")
	e.Kill()
	kill()
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	answered("after both were killed")
	e.Must(t, "rm", "-f", "two")
	if got := digIn(t, one, "two"); got == "10.232.1.11" {
		t.Error("a container that is gone is still found")
	}
}
