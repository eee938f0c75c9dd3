package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The kernel's 1,023 interfaces on one bridge: the start of one container more is a server error that names the limit and
// what helps; it leaves nothing, and what stops makes room at once.
func TestFullBridge(t *testing.T) {
	e := engine(t)
	e.Must(t, "run", "--rm", "bb", "true")
	bridge := e.Must(t, "network", "inspect", "-f", `{{index .Options "com.docker.network.bridge.name"}}`, "bridge")
	far := exec.Command("unshare", "-n", "sleep", "600") // the pairs go with their other ends' namespace
	if err := far.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Process.Kill(); _ = far.Wait() })
	own := func(pid any) string { link, _ := os.Readlink(fmt.Sprintf("/proc/%v/ns/net", pid)); return link }
	for own(far.Process.Pid) == own("self") {
		time.Sleep(time.Millisecond)
	}
	var batch strings.Builder
	for i := range 1023 {
		fmt.Fprintf(&batch, "link add fa%d master %s type veth peer name fb%d netns %d\n", i, bridge, i, far.Process.Pid)
	}
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "-batch", file).CombinedOutput(); err == nil || !strings.Contains(string(out), "Exchange full") {
		t.Fatalf("the bridge is not full: %v %s", err, out)
	}
	running := []string{} // as many as find an interface that was made ahead
	for i := 0; ; i++ {
		name := fmt.Sprintf("c%d", i)
		_, errs, code := e.Docker("run", "-d", "--name", name, "bb", "sleep", "600")
		if code == 0 {
			running = append(running, name)
			continue
		}
		for _, want := range []string{"failed to set up container networking", "bridge " + bridge + " is full", "at most 1023 interfaces on one bridge", "stop some containers"} {
			if code != 125 || !strings.Contains(errs, want) {
				t.Errorf("docker run: exit %d, %q is not in %s", code, want, errs)
			}
		}
		break
	}
	if len(running) == 0 || len(running) > 100 {
		t.Fatalf("%d containers found room", len(running))
	}
	interfaces := func() string {
		out, _ := exec.Command("ip", "-o", "link", "show", "master", bridge).Output()
		all, _ := exec.Command("ip", "-o", "link").Output()
		return fmt.Sprint(strings.Count(string(out), "\n"), " of ", strings.Count(string(all), "\n"))
	}
	before := interfaces()
	refused := fmt.Sprintf("c%d", len(running))
	res, err := e.HTTP().Post("http://d/containers/"+refused+"/start", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != 500 || !strings.Contains(string(text), "at most 1023 interfaces") {
		t.Errorf("start: %s %s", res.Status, text)
	}
	if s := e.Must(t, "inspect", "-f", "{{.State.Status}} {{.State.Pid}} {{.State.ExitCode}} {{len .State.Error | lt 0}}", refused); s != "created 0 128 true" {
		t.Errorf("the refused container: %s", s)
	}
	if after := interfaces(); after != before {
		t.Errorf("interfaces: %s, before %s", after, before)
	}
	e.Must(t, "run", "--rm", "--network", "none", "bb", "true")
	e.Must(t, "run", "--rm", "--network", "container:c0", "bb", "true")
	e.Must(t, "restart", "-t", "0", "c0") // it takes what itself gives back
	e.Must(t, "rm", "-f", "c0")
	e.Must(t, "start", refused)
	if ip := e.Must(t, "exec", refused, "ip", "-o", "-4", "addr", "show", "eth0"); !strings.Contains(ip, "inet ") {
		t.Errorf("no address: %q", ip)
	}
}
