package e2e

import (
	"io"
	"os"
	"strings"
	"testing"
)

// kinds are the namespaces that Linux has.
var kinds = []string{"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"}

// namespaces reads a process's namespaces on the host.
func namespaces(t *testing.T, pid string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, k := range kinds {
		link, err := os.Readlink("/proc/" + pid + "/ns/" + k)
		if err != nil {
			t.Fatal(err)
		}
		all[k] = link
	}
	return all
}

// An exec is in every namespace of its container, however that came by them and whoever asks, also when
// the daemon that made the container is gone. Containers have no user and no time namespace of their own:
// the engine makes none, so the host's must be what both are in.
func TestExecJoinsEveryNamespace(t *testing.T) {
	e := engine(t)
	host := namespaces(t, "self")
	show := "for k in " + strings.Join(kinds, " ") + "; do echo $k $(readlink /proc/self/ns/$k); done"
	containers := map[string]struct {
		flags []string
		own   string // namespaces that are not the host's
		as    string // container whose namespaces are joined
		with  string // those namespaces
	}{
		"plain":     {nil, "ipc mnt net pid pid_for_children uts", "", ""},
		"init":      {[]string{"--init"}, "ipc mnt net pid pid_for_children uts", "", ""},
		"terminal":  {[]string{"-t"}, "ipc mnt net pid pid_for_children uts", "", ""},
		"user":      {[]string{"--user", "1234:1234"}, "ipc mnt net pid pid_for_children uts", "", ""},
		"privilege": {[]string{"--privileged"}, "ipc mnt net pid pid_for_children uts", "", ""},
		"cgroup":    {[]string{"--cgroupns", "private"}, "cgroup ipc mnt net pid pid_for_children uts", "", ""},
		"every":     {[]string{"--cgroupns", "private", "--ipc", "private", "--network", "none", "--user", "1234", "--init", "--read-only"}, "cgroup ipc mnt net pid pid_for_children uts", "", ""},
		"hosts":     {[]string{"--cgroupns", "host", "--ipc", "host", "--network", "host", "--pid", "host", "--uts", "host"}, "mnt", "", ""},
		"giver":     {[]string{"--ipc", "shareable"}, "ipc mnt net pid pid_for_children uts", "", ""},
		"joined":    {[]string{"--ipc", "container:giver", "--network", "container:giver", "--pid", "container:giver"}, "ipc mnt net pid pid_for_children uts", "giver", "ipc net pid pid_for_children"},
		"joinedpid": {[]string{"--pid", "container:giver", "--userns", "host"}, "ipc mnt net pid pid_for_children uts", "giver", "pid pid_for_children"},
	}
	order := []string{"plain", "init", "terminal", "user", "privilege", "cgroup", "every", "hosts", "giver", "joined", "joinedpid"}
	execs := map[string][]string{
		"as it is": nil, "as root": {"-u", "0"}, "as a user": {"-u", "4321:4321"}, "privileged": {"--privileged"}, "with a terminal": {"-t"},
	}
	check := func(t *testing.T, name string) {
		t.Helper()
		c := containers[name]
		want := namespaces(t, e.Must(t, "inspect", "-f", "{{.State.Pid}}", name))
		for _, k := range kinds {
			if own := strings.Contains(" "+c.own+" ", " "+k+" "); own == (want[k] == host[k]) {
				t.Errorf("%s: %s %s, the host's is %s", name, k, want[k], host[k])
			}
		}
		if c.as != "" {
			other := namespaces(t, e.Must(t, "inspect", "-f", "{{.State.Pid}}", c.as))
			for _, k := range strings.Fields(c.with) {
				if want[k] != other[k] {
					t.Errorf("%s: %s %s, that of %s is %s", name, k, want[k], c.as, other[k])
				}
			}
		}
		for how, flags := range execs {
			out := e.Must(t, append(append([]string{"exec"}, flags...), name, "sh", "-c", show)...)
			got := strings.Fields(out)
			if len(got) != 2*len(kinds) {
				t.Errorf("%s, exec %s: %q", name, how, out)
				continue
			}
			for i := 0; i < len(got); i += 2 {
				if got[i+1] != want[got[i]] {
					t.Errorf("%s, exec %s: %s %s, the container's is %s", name, how, got[i], got[i+1], want[got[i]])
				}
			}
		}
	}
	for _, name := range order {
		e.Must(t, append(append([]string{"run", "-d", "--name", name}, containers[name].flags...), "bb", "sleep", "600")...)
		check(t, name)
	}
	// An exec in the background, and a check of health, which is an exec of the engine's own.
	e.Must(t, "run", "-d", "--name", "healthy", "--cgroupns", "private", "--health-interval", "100ms", "--health-cmd", "("+show+") >/probe.new; mv /probe.new /probe", "bb", "sleep", "600")
	become(t, e, "healthy", "Health.Status", "healthy")
	e.Must(t, "exec", "-d", "healthy", "sh", "-c", "("+show+") >/background.new; mv /background.new /background")
	want := namespaces(t, state(t, e, "healthy", "Pid"))
	for _, file := range []string{"/probe", "/background"} {
		out := e.Must(t, "exec", "healthy", "sh", "-c", "until test -e "+file+"; do sleep 0.02; done; cat "+file)
		for _, k := range kinds {
			if !strings.Contains(out+"\n", k+" "+want[k]+"\n") {
				t.Errorf("%s: %s is not %s in %q", file, k, want[k], out)
			}
		}
	}
	e.Kill()
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	for _, name := range order {
		check(t, name)
	}
}

// There is no user namespace to be had, and nobody gets another than was asked for.
func TestUserNamespacesAreRefused(t *testing.T) {
	e := engine(t)
	for _, mode := range []string{"private", "container:x", "auto"} { // the client sends none of them
		res, err := e.HTTP().Post("http://d/containers/create", "application/json", strings.NewReader(`{"Image":"bb","HostConfig":{"UsernsMode":"`+mode+`"}}`))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != 400 || !strings.Contains(string(text), "invalid user namespace mode: "+mode) {
			t.Errorf("user namespace %s: %s %s", mode, res.Status, text)
		}
	}
	if out := e.Must(t, "run", "--rm", "--userns", "host", "bb", "cat", "/proc/self/uid_map"); strings.Join(strings.Fields(out), " ") != "0 0 4294967295" {
		t.Errorf("--userns host: %q", out)
	}
}
