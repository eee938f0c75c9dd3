package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/sys/cgroup"
	"github.com/gantry-engine/gantry/internal/testkit"
)

const asDaemon = "GANTRYD_TEST_AS_DAEMON"

// The test binary is the daemon when it is told so: for what ends before there is anything to serve.
func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		os.Exit(run(os.Args, os.Stdout, os.Stderr))
	}
	testkit.Main(m)
}

// output collects what the daemon says; it may be read while the daemon runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) { o.mu.Lock(); defer o.mu.Unlock(); return o.b.Write(p) }
func (o *output) String() string              { o.mu.Lock(); defer o.mu.Unlock(); return o.b.String() }

type process struct {
	dir  string
	cmd  *exec.Cmd
	log  *output
	done chan struct{}
}

// endKeeper ends the anchor and the keeper of a daemon that was killed: they would wait for the next one.
func endKeeper(execRoot string) {
	for range 50 { // each may start the other anew meanwhile
		found := false
		entries, _ := os.ReadDir("/proc")
		for _, d := range entries {
			pid, err := strconv.Atoi(d.Name())
			if err != nil || pid == os.Getpid() {
				continue
			}
			cmdline, err := os.ReadFile(filepath.Join("/proc", d.Name(), "cmdline"))
			if err == nil && bytes.Contains(cmdline, []byte("--exec-root\x00"+execRoot+"\x00")) && bytes.Contains(cmdline, []byte("gantry-")) {
				found = true
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if !found {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// endContainers ends what runs on without daemon and keeper, and removes its cgroups.
func endContainers(t *testing.T, dir string) {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"/sys/fs/cgroup/gantry-test-", "/sys/fs/cgroup/*/gantry-test-"} {
		dirs, _ := filepath.Glob(pattern + filepath.Base(dir))
		for _, d := range dirs {
			found[d] = d
		}
	}
	if err := cgroup.Destroy(found); err != nil {
		t.Error(err)
	}
}

// launch starts a daemon with roots of its own below dir. extra[0] may be "name=dockerd".
func launch(t *testing.T, dir string, extra ...string) *process {
	t.Helper()
	tag := filepath.Base(dir)
	args := []string{
		"gantryd", "--data-root", dir + "/data", "--exec-root", dir + "/exec", "--pidfile", dir + "/pid", "-H", "unix://" + dir + "/s",
		"--bridge", "none", "--cgroup-parent", "/gantry-test-" + tag, "--config-file", dir + "/daemon.json",
	}
	p := &process{dir: dir, log: &output{}, done: make(chan struct{})}
	if _, err := os.Stat(dir + "/daemon.json"); errors.Is(err, fs.ErrNotExist) {
		write(t, dir+"/daemon.json", "{}")
	}
	p.cmd = &exec.Cmd{Path: filepath.Join(testkit.Bin(t), "gantryd"), Args: append(args, extra...), Env: os.Environ(), Stdout: p.log, Stderr: p.log}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		endKeeper(dir + "/exec")
		endContainers(t, dir)
		if t.Failed() {
			t.Logf("the daemon said:\n%s", p.log)
		}
	})
	return p
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *process) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.dir+"/s")
	}}}
}

func (p *process) get(path string) (string, error) {
	res, err := p.client().Get("http://d" + path)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// eventually waits for what the daemon does in the background.
func (p *process) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		select {
		case <-p.done:
			if ok() {
				return
			}
			t.Fatalf("the daemon ended; waiting for: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("never came: %s", what)
}

func (p *process) ready(t *testing.T) *process {
	t.Helper()
	p.eventually(t, "info", func() bool { _, err := p.get("/info"); return err == nil })
	return p
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(40 * time.Second):
		t.Fatal("the daemon does not end")
		return -1
	}
}

func TestServesAndStops(t *testing.T) {
	p := launch(t, testkit.ShortTempDir(t)).ready(t)
	if b, err := p.get("/_ping"); err != nil || b != "OK" {
		t.Errorf("ping: %q %v", b, err)
	}
	var info struct{ ID, DockerRootDir string }
	b, _ := p.get("/info")
	if err := json.Unmarshal([]byte(b), &info); err != nil || info.DockerRootDir != p.dir+"/data" || info.ID == "" {
		t.Errorf("info: %s", b)
	}
	if pid, err := os.ReadFile(p.dir + "/pid"); err != nil || string(pid) != strconv.Itoa(p.cmd.Process.Pid) {
		t.Errorf("pidfile %q, %v", pid, err)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, f := range []string{"/s", "/pid"} {
		if _, err := os.Stat(p.dir + f); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was left behind: %v", f, err)
		}
	}
	again := launch(t, p.dir).ready(t)
	if b, _ := again.get("/info"); !strings.Contains(b, info.ID) {
		t.Error("the engine has another ID after a restart")
	}
}

// A daemon that is told to stop before it is ready stops, and says so with its exit code.
func TestStopsWhileStarting(t *testing.T) {
	dir := testkit.ShortTempDir(t)
	for i := range 6 {
		p := launch(t, dir)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			c, err := net.Dial("unix", dir+"/s")
			if err == nil {
				_ = c.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(i) * 10 * time.Millisecond)
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.done:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d ms after its socket was there, the daemon does not stop", 10*i)
		}
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("stopped %d ms after its socket was there, it ended with %d", 10*i, code)
		}
	}
}

func TestKilledDaemonStartsAgain(t *testing.T) {
	p := launch(t, testkit.ShortTempDir(t)).ready(t)
	p.signal(t, syscall.SIGKILL)
	p.exit(t)
	launch(t, p.dir).ready(t) // stale socket, pidfile and locks are no hindrance
}

func TestSecondDaemonIsRefused(t *testing.T) {
	p := launch(t, testkit.ShortTempDir(t)).ready(t)
	second := launch(t, p.dir)
	if code := second.exit(t); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(second.log.String(), "is in use by process "+strconv.Itoa(p.cmd.Process.Pid)) {
		t.Errorf("%s", second.log)
	}
	if b, err := p.get("/_ping"); err != nil || b != "OK" {
		t.Errorf("the first daemon: %q %v", b, err)
	}
}

func TestStreamsEndAtStop(t *testing.T) {
	p := launch(t, testkit.ShortTempDir(t)).ready(t)
	res, err := p.client().Get("http://d/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	p.signal(t, syscall.SIGINT)
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if b, _ := io.ReadAll(res.Body); len(b) != 0 {
		t.Errorf("unexpected events %q", b)
	}
}

func TestSIGHUPReloads(t *testing.T) {
	dir := testkit.ShortTempDir(t)
	write(t, dir+"/daemon.json", `{"labels":["a=1"]}`)
	p := launch(t, dir).ready(t)
	stream, err := p.client().Get("http://d/events")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	write(t, dir+"/daemon.json", `{"labels":["a=2"],"debug":true,"live-restore":false,"mtu":1400}`)
	p.signal(t, syscall.SIGHUP)
	var ev struct {
		Type, Action string
		Actor        struct{ Attributes map[string]string }
	}
	if err := json.NewDecoder(stream.Body).Decode(&ev); err != nil || ev.Type != "daemon" || ev.Action != "reload" || ev.Actor.Attributes["labels"] != `["a=2"]` {
		t.Errorf("event %+v, %v", ev, err)
	}
	b, _ := p.get("/info")
	var info struct {
		Labels                    []string
		Debug, LiveRestoreEnabled bool
	}
	if err := json.Unmarshal([]byte(b), &info); err != nil || len(info.Labels) != 1 || info.Labels[0] != "a=2" || !info.Debug || info.LiveRestoreEnabled {
		t.Errorf("info after reload: %s", b)
	}
	if !strings.Contains(p.log.String(), "mtu") {
		t.Error("the log does not say that mtu waits for a restart")
	}
	write(t, dir+"/daemon.json", `{"labels":`)
	p.signal(t, syscall.SIGHUP)
	p.eventually(t, "a complaint about the broken file", func() bool { return strings.Contains(p.log.String(), "was not reloaded") })
	if b, err := p.get("/info"); err != nil || !strings.Contains(b, "a=2") {
		t.Errorf("after a broken file: %v", err)
	}
}

func TestStackDumps(t *testing.T) {
	p := launch(t, testkit.ShortTempDir(t)).ready(t)
	for n, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGQUIT} {
		p.signal(t, s)
		p.eventually(t, "a stack dump", func() bool {
			files, _ := filepath.Glob(p.dir + "/exec/goroutine-stacks-*.log")
			return len(files) == n+1 && strings.Contains(p.log.String(), files[n])
		})
	}
	files, _ := filepath.Glob(p.dir + "/exec/goroutine-stacks-*.log")
	if b, err := os.ReadFile(files[0]); err != nil || !bytes.Contains(b, []byte("goroutine 1 ")) || !bytes.Contains(b, []byte("(*daemon).loop")) {
		t.Errorf("dump: %v, %.300s", err, b)
	}
	if _, err := p.get("/info"); err != nil {
		t.Errorf("after the dumps: %v", err)
	}
}

func TestSocketActivation(t *testing.T) {
	dir := testkit.ShortTempDir(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/activated"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	out := &output{}
	// LISTEN_PID has to be the daemon's own: a shell sets it and becomes the daemon.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, filepath.Join(testkit.Bin(t), "gantryd"),
		"--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "-H", "fd://", "--bridge", "none")
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "NOTIFY_SOCKET="+dir+"/notify")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}()
	_ = notify.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 100)
	n, err := notify.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Fatalf("told systemd %q, %v\n%s", buf[:n], err, out)
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", dir+"/activated")
	}, DisableKeepAlives: true}}
	res, err := c.Get("http://d/_ping")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	res.Body.Close()
}

func TestMetricsAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	launch(t, testkit.ShortTempDir(t), "--metrics-addr", addr).ready(t)
	res, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); !bytes.Contains(b, []byte(`gantry_api_requests_total{code="200",method="GET",route="/info"}`)) {
		t.Errorf("%.1000s", b)
	}
}

// What is answered without becoming a daemon, and what is refused at start.
func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/good.json", `{"debug":true}`)
	write(t, dir+"/unknown.json", `{"nonsense":true}`)
	write(t, dir+"/labels.json", `{"labels":["a=1"]}`)
	write(t, dir+"/file", "")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"--version", 0, "Gantry version "},
		{"-v", 0, ", build "},
		{"--help", 0, "--data-root"},
		{"--validate --config-file " + dir + "/good.json", 0, "configuration OK"},
		{"--validate --config-file " + dir + "/unknown.json", 1, "the following directives don't match any configuration option: nonsense"},
		{"--validate --label b=2 --config-file " + dir + "/labels.json", 1, "the following directives are specified both as a flag and in the configuration file: labels: (from flag: [b=2], from file: [a=1])"},
		{"--validate --rootless", 1, "--rootless is not supported"},
		{"--nonsense", 1, "unknown flag: --nonsense"},
		{"now", 1, `"now" is not a flag`},
		{"--data-root " + dir + "/d1 --exec-root " + dir + "/x -p " + dir + "/p -H tcp://127.0.0.1:0 --bridge none", 1, "--tls=false"},
		{"--data-root " + dir + "/file/sub --exec-root " + dir + "/x -p " + dir + "/p", 1, "not a directory"},
		{"--data-root " + dir + "/d2 --exec-root " + dir + "/x -p " + dir + "/p -H unix://" + dir + "/file --bridge none", 1, "is no socket"},
	} {
		cmd := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"gantryd"}, strings.Fields(c.args)...), Env: append(os.Environ(), asDaemon+"=1")}
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: exit %d, want %d:\n%s", c.args, cmd.ProcessState.ExitCode(), c.code, out)
		}
	}
}

func TestReadOnlyDataRoot(t *testing.T) {
	dir := testkit.ShortTempDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	write(t, dir+"/daemon.json", "{}")
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	p := launch(t, dir)
	if code := p.exit(t); code != 1 || !strings.Contains(p.log.String(), "read-only file system") || !strings.Contains(p.log.String(), "--data-root") {
		t.Errorf("exit %d: %s", code, p.log)
	}
}
