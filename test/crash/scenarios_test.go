package crash

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	driver "github.com/gantry-engine/gantry/internal/driver/keeper"
)

// trial is one run of a scenario.
type trial struct {
	*lab
	name string // of its container
	// blind: keeper and anchor were killed at one instant. Then nobody may have seen an exit, and
	// what a pipe held when its last writer ended is gone with it.
	blind bool
}

// scenarios are what happens while a process is killed. Each goes on as a client would: it asks
// again where the answer was lost, and wants the outcome it would have had without the kill.
var scenarios = []struct {
	name string
	run  func(*trial) error
}{
	{"plain", (*trial).plain},
	{"autoremove", (*trial).autoremove},
	{"exec", (*trial).exec},
	{"stdin", (*trial).stdin},
	{"attach", (*trial).attach},
	{"terminal", (*trial).terminal},
	{"stop", (*trial).stop},
	{"kill", (*trial).kill},
	{"restart policy", (*trial).policy},
	{"restart", (*trial).restart},
	{"rotation", (*trial).rotation},
	{"failing start", (*trial).failing},
	{"daemon restarts", (*trial).daemonRestarts},
	{"keeper dies", (*trial).keeperDies},
	{"anchor dies", (*trial).anchorDies},
	{"both die", (*trial).bothDie},
	{"helper dies", (*trial).helperDies},
	{"upgrade", (*trial).upgrade},
	{"half launched", (*trial).halfLaunched},
	{"ship", (*trial).ship},
	{"load", (*trial).load},
	{"mend", (*trial).mend},
	{"networks", (*trial).networks},
	{"networks below", (*trial).below},
}

const count = `i=0; while [ $i -lt %d ]; do i=$((i+1)); echo "line $i"; done; `

// shell is a container's configuration that runs a script with /out for its traces.
func (c *trial) shell(script string, host map[string]any) map[string]any {
	hc := map[string]any{"Binds": []string{c.out() + ":/out"}}
	for k, v := range host {
		hc[k] = v
	}
	return map[string]any{"Image": "bb", "Cmd": []string{"sh", "-c", script}, "HostConfig": hc}
}

func (c *trial) out() string { return filepath.Join(c.e.Dir, "out", c.name) }

// traces reads a file that the container's script has appended to.
func (c *trial) traces(file string) string {
	b, _ := os.ReadFile(filepath.Join(c.out(), file))
	return string(b)
}

// up creates and starts a container.
func (c *trial) up(body map[string]any) (id string, gone bool, err error) {
	if id, err = c.create(c.name, body); err != nil {
		return "", false, err
	}
	gone, err = c.start(id)
	return id, gone, err
}

// finish waits for the end, checks code and output, and removes.
func (c *trial) finish(id string, code int, output string) error {
	d, err := c.ended(id)
	if err != nil {
		return err
	}
	if d == nil {
		return fmt.Errorf("%s is gone", c.name)
	}
	if err := c.exitCode(d, code); err != nil {
		return err
	}
	got, err := c.logs(id, false)
	if err != nil {
		return err
	}
	if err := same("the log of "+c.name, got, output); err != nil && !(c.blind && cutShort(got, output)) {
		return err
	}
	return c.remove(id)
}

// cutShort tells whether got is output without its end, or that and then all of it.
func cutShort(got, output string) bool {
	got, all := strings.CutSuffix(got, output)
	return strings.HasPrefix(output, got) || all && got == ""
}

func (c *trial) exitCode(d *details, code int) error {
	unknown := d.State.ExitCode == 255 && strings.Contains(d.State.Error, "unknown")
	if d.State.ExitCode == code && d.State.Error == "" || c.blind && unknown {
		return nil
	}
	return fmt.Errorf("%s ended with %d %q, and should with %d", c.name, d.State.ExitCode, d.State.Error, code)
}

var ephemeral = map[string]any{"9/tcp": []map[string]string{{"HostIp": "127.0.0.1", "HostPort": ""}}}

func (c *trial) plain() error {
	body := c.shell(fmt.Sprintf(count, 300)+"echo ran >> /out/ran; exit 7", map[string]any{"PortBindings": ephemeral, "IpcMode": "shareable"})
	body["Volumes"] = map[string]any{"/data": struct{}{}}
	id, _, err := c.up(body)
	if err != nil {
		return err
	}
	if err := c.finish(id, 7, numbered(300)); err != nil {
		return err
	}
	return c.once()
}

// once: the script ran to its end exactly one time.
func (c *trial) once() error {
	// A launch that both keeper and anchor did not live to tell of is tried again.
	if got := c.traces("ran"); got != "ran\n" && !(c.blind && got == "ran\nran\n") {
		return fmt.Errorf("%s ran to its end %d times; %s", c.name, strings.Count(got, "\n"), c.said())
	}
	return nil
}

func (c *trial) autoremove() error {
	body := c.shell(fmt.Sprintf(count, 50)+"usleep 50000; echo ran >> /out/ran; exit 3", map[string]any{"PortBindings": ephemeral, "AutoRemove": true})
	body["Volumes"] = map[string]any{"/data": struct{}{}}
	for try := 0; ; try++ {
		if _, _, err := c.up(body); err != nil {
			return err
		}
		if _, err := c.becomes(c.name, "to be removed", func(d *details) bool { return d == nil }); err != nil {
			return err
		}
		if c.traces("ran") != "" || try == 2 { // a start that failed removes too
			return c.once()
		}
	}
}

func (c *trial) exec() error {
	id, _, err := c.up(c.shell("sleep 60 & echo ready > /out/ready; wait", nil))
	if err != nil {
		return err
	}
	if err := c.ready(); err != nil {
		return err
	}
	script := "echo began >> /out/exec; (sleep 0.4; echo late) & exit 4"
	for { // an exec that was lost is made again; one that ran is not
		e, err := c.execOnce(id, script)
		if err != nil {
			return err
		}
		if e.ran {
			if e.seen && e.code != 4 && !c.blind {
				return fmt.Errorf("the exec ended with %d, and should with 4", e.code)
			}
			break
		}
		if c.traces("exec") != "" {
			break // it ran, but the daemon that knew of it has died
		}
	}
	if got := c.traces("exec"); got != "began\n" {
		return fmt.Errorf("the exec ran %d times", strings.Count(got, "\n"))
	}
	return c.remove(id)
}

func (c *trial) ready() error {
	return insist(c.name+" to be ready", func() (bool, string, error) { return c.traces("ready") != "", "", nil })
}

type execResult struct {
	ran, seen bool
	code      int
}

func (c *trial) execOnce(id, script string) (r execResult, err error) {
	st, b, err := c.do("POST", "/containers/"+id+"/exec", map[string]any{"Cmd": []string{"sh", "-c", script}, "AttachStdout": true})
	if errors.Is(err, errDown) {
		return r, nil
	}
	if err != nil || st != http.StatusCreated {
		return r, errors.Join(err, fmt.Errorf("creating an exec: %d %s", st, b))
	}
	var made struct{ ID string }
	if err := json.Unmarshal(b, &made); err != nil {
		return r, err
	}
	st, _, err = c.do("POST", "/exec/"+made.ID+"/start", map[string]any{"Detach": true})
	if err != nil && !errors.Is(err, errDown) {
		return r, err
	}
	r.ran = err == nil && st == http.StatusOK
	err = insist("the exec's end", func() (bool, string, error) {
		st, b, err := c.do("GET", "/exec/"+made.ID+"/json", nil)
		switch {
		case errors.Is(err, errDown):
			return false, err.Error(), nil
		case err != nil:
			return false, "", err
		case st != http.StatusOK: // the daemon that knew of it has died
			return true, "", nil
		}
		var x struct {
			Running  bool
			ExitCode *int
		}
		if err := json.Unmarshal(b, &x); err != nil {
			return false, "", err
		}
		if x.ExitCode != nil && !x.Running {
			r.seen, r.code = r.ran, *x.ExitCode
			return true, "", nil
		}
		return !x.Running && !r.ran, string(b), nil
	})
	return r, err
}

// stdin runs the client: a connection cannot be taken up again, so only what it leaves is checked
// when it broke.
func (c *trial) stdin() error {
	if err := c.revive(); err != nil {
		return err
	}
	out, errs, code := c.docker("some words\n", "run", "-i", "--name", c.name, "bb", "sh", "-c", "cat; exit 6")
	if code == 6 && out != "some words\n" {
		return fmt.Errorf("docker run -i: exit %d, %q, %s", code, out, errs)
	}
	if err := c.settle(); err != nil {
		return err
	}
	return c.remove(c.name)
}

// attach follows a container that runs. The client's connection ends with the daemon, the container not.
func (c *trial) attach() error {
	id, err := c.live()
	if err != nil {
		return err
	}
	conn, err := c.attached(id)
	if err != nil {
		return err
	}
	if conn != nil {
		defer conn.Close()
	}
	if err := c.letGo(); err != nil {
		return err
	}
	return c.finish(id, 9, numbered(10))
}

// attached is a connection that follows a container, or nil if the daemon or the keeper died meanwhile.
func (c *trial) attached(id string) (net.Conn, error) {
	if c.revive() != nil {
		return nil, nil
	}
	conn, err := net.DialTimeout("unix", c.e.Socket, patience)
	if err != nil {
		return nil, nil
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = fmt.Fprintf(conn, "POST /containers/%s/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", id)
	answer := ""
	if err == nil {
		answer, err = bufio.NewReader(conn).ReadString('\n') // it follows now
	}
	if err == nil && strings.Contains(answer, " 101 ") {
		return conn, nil
	}
	_ = conn.Close()
	if err == nil && !strings.Contains(answer, " 503 ") {
		return nil, fmt.Errorf("attach answers %q", answer)
	}
	return nil, nil
}

func (c *trial) terminal() error {
	body := c.shell(fmt.Sprintf(count, 300)+"exit 8", nil)
	body["Tty"] = true
	id, _, err := c.up(body)
	if err != nil {
		return err
	}
	d, err := c.ended(id)
	if err != nil || d == nil {
		return fmt.Errorf("%s is gone: %w", c.name, err)
	}
	if err := c.exitCode(d, 8); err != nil {
		return err
	}
	got, err := c.logs(id, true)
	if err != nil {
		return err
	}
	if want := strings.ReplaceAll(numbered(300), "\n", "\r\n"); got != want && !(c.blind && strings.HasPrefix(want, got)) {
		return same("the log of "+c.name, got, want)
	}
	return c.remove(id)
}

// running starts a container that ends on SIGTERM with 23, and waits until it listens.
func (c *trial) running(host map[string]any) (string, error) {
	id, _, err := c.up(c.shell(`trap 'echo got >> /out/term; exit 23' TERM; echo ready > /out/ready; while :; do usleep 5000; done`, host))
	if err != nil {
		return "", err
	}
	return id, c.ready()
}

func (c *trial) stop() error {
	id, err := c.running(map[string]any{"RestartPolicy": map[string]any{"Name": "unless-stopped"}})
	if err != nil {
		return err
	}
	var last *details
	err = c.post("/containers/"+id+"/stop?t=20", func() (_ bool, _ string, err error) {
		last, err = c.inspect(id)
		return last == nil || last.State.Status == "exited", fmt.Sprintf("%+v", last), err
	})
	if err != nil {
		return err
	}
	if last == nil {
		return fmt.Errorf("%s is gone", c.name)
	}
	if err := c.exitCode(last, 23); err != nil {
		return err
	}
	return c.remove(id)
}

func (c *trial) kill() error {
	id, err := c.running(nil)
	if err != nil {
		return err
	}
	for _, x := range []struct{ verb, status string }{{"pause", "paused"}, {"unpause", "running"}} {
		err := c.post("/containers/"+id+"/"+x.verb, func() (bool, string, error) {
			d, err := c.inspect(id)
			return d != nil && d.State.Status == x.status, fmt.Sprintf("%+v", d), err
		})
		if err != nil {
			return err
		}
	}
	if err := c.post("/containers/"+id+"/kill", func() (bool, string, error) {
		d, err := c.inspect(id)
		return d != nil && d.State.Status == "exited", fmt.Sprintf("%+v", d), err
	}); err != nil {
		return err
	}
	return c.finish(id, 137, "")
}

func (c *trial) policy() error {
	id, _, err := c.up(c.shell("echo ran >> /out/ran; exit 5", map[string]any{"RestartPolicy": map[string]any{"Name": "on-failure", "MaximumRetryCount": 2}}))
	if err != nil {
		return err
	}
	d, err := c.becomes(id, "to have been started again twice", func(d *details) bool { return d != nil && d.State.Status == "exited" && d.RestartCount == 2 })
	if err != nil {
		return err
	}
	if err := c.exitCode(d, 5); err != nil {
		return err
	}
	// A start that the keeper's death cut short is tried again: it may run more often, never less.
	if n := strings.Count(c.traces("ran"), "\n"); n < 3 || n > 4 {
		return fmt.Errorf("%s ran %d times, and should 3", c.name, n)
	}
	return c.remove(id)
}

func (c *trial) restart() error {
	id, err := c.running(map[string]any{"AutoRemove": true})
	if err != nil {
		return err
	}
	before, err := c.inspect(id)
	if err != nil || before == nil {
		return fmt.Errorf("%s is gone: %w", c.name, err)
	}
	first := true
	err = insist("restarting "+c.name, func() (bool, string, error) {
		st, b, err := c.do("POST", "/containers/"+id+"/restart?t=20", nil)
		if err != nil && !errors.Is(err, errDown) {
			return false, "", err
		}
		if err == nil && st == http.StatusNoContent {
			return true, "", nil
		}
		d, ierr := c.inspect(id)
		if ierr != nil {
			return false, "", ierr
		}
		// A daemon that dies between stop and start leaves an auto-remove container that has ended.
		done := d == nil || !first && d.State.Status == "running" && d.State.Pid != before.State.Pid
		first = false
		return done, fmt.Sprintf("%d %s %v", st, b, err), nil
	})
	if err != nil {
		return err
	}
	return c.remove(id)
}

func (c *trial) rotation() error {
	id, _, err := c.up(c.shell(fmt.Sprintf(count, 1500)+"exit 0", map[string]any{
		"LogConfig": map[string]any{"Type": "json-file", "Config": map[string]string{"max-size": "20k", "max-file": "30", "compress": "true"}},
	}))
	if err != nil {
		return err
	}
	return c.finish(id, 0, numbered(1500))
}

func (c *trial) failing() error {
	body := c.shell("", nil)
	body["Cmd"] = []string{"/no/such/program"}
	id, err := c.create(c.name, body)
	if err != nil {
		return err
	}
	err = c.post("/containers/"+id+"/start", func() (bool, string, error) {
		d, err := c.inspect(id)
		return d != nil && d.State.ExitCode == 127 && d.State.Status == "created", fmt.Sprintf("%+v", d), err
	})
	if err != nil {
		return err
	}
	return c.remove(id)
}

// live starts a container that runs on for a while, prints and ends with 9.
func (c *trial) live() (string, error) {
	id, _, err := c.up(c.shell("echo ready > /out/ready; "+fmt.Sprintf(count, 10)+"while [ ! -e /out/go ]; do usleep 5000; done; exit 9", nil))
	if err != nil {
		return "", err
	}
	return id, c.ready()
}

func (c *trial) letGo() error { return os.WriteFile(filepath.Join(c.out(), "go"), nil, 0o600) }

func (c *trial) daemonRestarts() error {
	id, err := c.live()
	if err != nil {
		return err
	}
	volatile := &trial{lab: c.lab, name: c.name + "v", blind: c.blind}
	if err := os.MkdirAll(volatile.out(), 0o777); err != nil {
		return err
	}
	if _, _, err := volatile.up(volatile.shell("while [ ! -e /out/go ]; do usleep 5000; done", map[string]any{"AutoRemove": true})); err != nil {
		return err
	}
	if err := c.revive(); err != nil {
		return err
	}
	_ = c.e.Stop() // it may be killed on its way out
	if err := errors.Join(volatile.letGo(), c.letGo()); err != nil {
		return err
	}
	if err := c.finish(id, 9, numbered(10)); err != nil {
		return err
	}
	_, err = c.becomes(volatile.name, "to be removed", func(d *details) bool { return d == nil })
	return err
}

// dies kills one of the engine's processes while a container lives, which then ends.
func (c *trial) dies(names ...string) error {
	id, err := c.live()
	if err != nil {
		return err
	}
	strike(c.e, names)
	if err := c.letGo(); err != nil {
		return err
	}
	return c.finish(id, 9, numbered(10))
}

func (c *trial) keeperDies() error { return c.dies("gantry-keeper") }
func (c *trial) anchorDies() error { return c.dies("gantry-anchor") }
func (c *trial) helperDies() error { return c.dies("gantry-net") }

func (c *trial) bothDie() error {
	c.blind = true
	return c.dies("gantry-keeper", "gantry-anchor")
}

// upgrade lets the keeper execute itself anew while a container prints.
func (c *trial) upgrade() error {
	id, _, err := c.up(c.shell(fmt.Sprintf(count, 3000)+"exit 2", nil))
	if err != nil {
		return err
	}
	// A keeper that was killed just now, or a clone of it that has not become gantry-init, may still be there.
	if err := insist("waiting for the one keeper", func() (bool, string, error) {
		keepers := c.crew()["gantry-keeper"]
		return len(keepers) == 1, fmt.Sprintf("there are %v", keepers), nil
	}); err != nil {
		return err
	}
	if err := c.upgradeKeeper(); err != nil {
		return err
	}
	return c.finish(id, 2, numbered(3000))
}

func (c *trial) upgradeKeeper() error {
	bin := os.Getenv("GANTRY_BIN")
	d, err := driver.New(driver.Config{
		ExecRoot: c.e.ExecRoot, KeeperPath: filepath.Join(bin, "gantry-keeper"), AnchorPath: filepath.Join(bin, "gantry-anchor"),
		InitPath: filepath.Join(bin, "gantry-init"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = d.Upgrade(ctx, filepath.Join(bin, "gantry-keeper")) // it may be killed on its way
	_, err = d.Alive(ctx)
	return err
}

// halfLaunched kills the keeper when a process exists that nobody was told of: the next one ends it.
func (c *trial) halfLaunched() error {
	if _, err := os.Stat(filepath.Join(c.fp, "arm")); err == nil {
		if err := os.Rename(filepath.Join(c.fp, "arm"), filepath.Join(c.fp, "next")); err != nil {
			return err
		}
	}
	if err := c.arm("arm", "keeper.launch-held", "gantry-keeper", 0); err != nil {
		return err
	}
	return c.plain()
}
