package testkit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Engine is one engine of its own: own data and exec roots, own cgroup parent,
// own bridge and table names, in the calling test's namespaces (see Main) or in
// fresh ones. Many can run at once; Stop and the leak check leave nothing behind.
type Engine struct {
	Dir      string // everything of this engine, logs included
	DataRoot string
	ExecRoot string // on tmpfs
	Socket   string
	Bridge   string // of the default network
	Kind     string // "gantry" or "docker"

	args []string
	env  []string
	ns   bool
	cmd  *exec.Cmd
	done chan error
	log  *os.File
}

// Options change how an engine is started.
type Options struct {
	Docker        bool     // Debian's dockerd, for comparison
	OwnNamespaces bool     // a mount and network namespace for this engine alone
	Args          []string // further flags
	Env           []string
}

// Start runs an engine and waits until it answers. The test's end stops it,
// with all its containers, and checks for leaks.
func Start(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := New(o, func() string { return Bin(t) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Destroy(); err != nil {
			t.Errorf("stopping the %s engine: %v", e.Kind, err)
		}
		if t.Failed() {
			t.Logf("the %s engine's log ends:\n%s", e.Kind, e.LogTail(6000))
		}
		_ = os.RemoveAll(e.Dir)
	})
	if err := e.Run(); err != nil {
		t.Fatalf("%v\n%s", err, e.LogTail(6000))
	}
	return e
}

// New prepares an engine without starting it.
func New(o Options, bin func() string) (*Engine, error) {
	id := make([]byte, 3)
	_, _ = rand.Read(id)
	tag := hex.EncodeToString(id)
	dir, err := os.MkdirTemp("/var/tmp", "gt-"+tag+"-")
	if err != nil {
		return nil, err
	}
	e := &Engine{
		Dir: dir, DataRoot: filepath.Join(dir, "data"), ExecRoot: "/dev/shm/gt-" + tag, Socket: filepath.Join(dir, "s"),
		Bridge: "gt" + tag, Kind: "gantry", ns: o.OwnNamespaces, env: o.Env,
	}
	if o.Docker {
		e.Kind, e.Bridge = "docker", "docker0"
		if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}\n"), 0o600); err != nil {
			return nil, err
		}
		e.args = []string{
			"/usr/sbin/dockerd", "--data-root", e.DataRoot, "--exec-root", e.ExecRoot, "--pidfile", filepath.Join(dir, "pid"),
			"-H", "unix://" + e.Socket, "--storage-driver", "overlay2", "--config-file", filepath.Join(dir, "daemon.json"),
		}
	} else {
		b := bin()
		e.args = []string{
			filepath.Join(b, "gantryd"), "--data-root", e.DataRoot, "--exec-root", e.ExecRoot, "--pidfile", filepath.Join(dir, "pid"),
			"-H", "unix://" + e.Socket, "--cgroup-parent", "/gantry-test-" + tag, "--bridge-name", e.Bridge, "--firewall-table", "gt" + tag,
		}
	}
	e.args = append(e.args, o.Args...)
	return e, nil
}

// Run starts the daemon (again) and waits until it answers a ping.
func (e *Engine) Run() error {
	log, err := os.OpenFile(filepath.Join(e.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	e.log = log
	args := e.args
	if e.ns {
		args = append([]string{"unshare", "-m", "-n", "--propagation", "private", "sh", "-c", `ip link set lo up; exec "$@"`, "sh"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), e.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		return err
	}
	e.cmd = cmd
	done := make(chan error, 1)
	e.done = done
	go func() { done <- cmd.Wait(); close(done); _ = log.Close() }()
	return e.wait(30 * time.Second)
}

func (e *Engine) wait(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		select {
		case err := <-e.done:
			return fmt.Errorf("the %s daemon ended at once: %v", e.Kind, err)
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := e.Ping(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the %s daemon does not answer: %w", e.Kind, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// HTTP is a client whose requests all go to the engine's socket.
func (e *Engine) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", e.Socket)
		},
		MaxIdleConnsPerHost: 64,
	}}
}

// Ping asks the engine whether it is there.
func (e *Engine) Ping(ctx context.Context) error {
	c := e.HTTP()
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://d/_ping", nil)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ping answered %s", res.Status)
	}
	return nil
}

// PID is the daemon's process ID.
func (e *Engine) PID() int { return e.cmd.Process.Pid }

// Kill ends the daemon at once, as a crash would, and waits for its end.
func (e *Engine) Kill() {
	_ = e.cmd.Process.Kill()
	<-e.done
}

// Ended tells whether the daemon has ended; Run starts it again.
func (e *Engine) Ended() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// Stop asks the daemon to end and waits for it.
func (e *Engine) Stop() error {
	select {
	case <-e.done:
		return nil
	default:
	}
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-e.done:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("the daemon ended with %s", exit)
		}
		return nil
	case <-time.After(30 * time.Second):
		_ = e.cmd.Process.Kill()
		<-e.done
		return errors.New("the daemon did not stop within 30 s")
	}
}

// Docker runs the official client against the engine.
func (e *Engine) Docker(args ...string) (stdout, stderr string, code int) {
	return e.client("docker", args...)
}

// Gantry runs our command line against the engine.
func (e *Engine) Gantry(args ...string) (stdout, stderr string, code int) {
	dir, err := built()
	if err != nil {
		return "", err.Error(), -1
	}
	return e.client(filepath.Join(dir, "gantry"), args...)
}

func (e *Engine) client(name string, args ...string) (string, string, int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.Socket, "DOCKER_CONFIG="+filepath.Join(e.Dir, "config"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out.String(), errs.String(), 0
	case errors.As(err, &exit):
		return out.String(), errs.String(), exit.ExitCode()
	default:
		return out.String(), errs.String() + err.Error(), -1
	}
}

// Must runs the official client and fails the test if it fails. It returns standard output, trimmed.
func (e *Engine) Must(t testing.TB, args ...string) string {
	t.Helper()
	out, errs, code := e.Docker(args...)
	if code != 0 {
		t.Fatalf("docker %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return strings.TrimSpace(out)
}

// LogTail is the last n bytes of the daemon's log.
func (e *Engine) LogTail(n int) string {
	b, err := os.ReadFile(filepath.Join(e.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return string(b)
}

// Processes lists the processes that belong to this engine, found by the exec
// root in their command line: PID to command line.
func (e *Engine) Processes() map[int]string {
	found := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, d := range entries {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", d.Name(), "cmdline"))
		if err != nil || !bytes.Contains(b, []byte(e.ExecRoot)) {
			continue
		}
		found[pid] = string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '}))
	}
	return found
}

// Destroy removes all containers, ends every process of the engine, and reports
// what it left behind: processes, mounts, cgroups, links.
func (e *Engine) Destroy() error {
	if e.cmd == nil {
		return nil
	}
	var errs []error
	if e.Kind == "gantry" {
		select {
		case <-e.done:
		default:
			ids, _, _ := e.Docker("ps", "-aq")
			if f := strings.Fields(ids); len(f) > 0 {
				if _, msg, code := e.Docker(append([]string{"rm", "-f", "-v"}, f...)...); code != 0 {
					errs = append(errs, fmt.Errorf("removing the containers: %s", msg))
				}
			}
		}
	} else {
		ids, _, _ := e.Docker("ps", "-aq")
		if f := strings.Fields(ids); len(f) > 0 {
			_, _, _ = e.Docker(append([]string{"rm", "-f", "-v"}, f...)...)
		}
	}
	if err := e.Stop(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, e.leaks()...)
	_ = syscall.Unmount(e.DataRoot, syscall.MNT_DETACH)
	_ = os.RemoveAll(e.ExecRoot)
	return errors.Join(errs...)
}

// leaks waits a moment for the small processes to go, ends those that stay and tells of them.
func (e *Engine) leaks() []error {
	var errs []error
	deadline := time.Now().Add(5 * time.Second)
	var left map[int]string
	for {
		if left = e.Processes(); len(left) == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for pid, cmd := range left {
		if e.Kind == "gantry" {
			errs = append(errs, fmt.Errorf("process %d was left behind: %s", pid, cmd))
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if e.Kind != "gantry" {
		return errs
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return append(errs, err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, e.ExecRoot) || strings.Contains(line, e.Dir) {
			errs = append(errs, fmt.Errorf("mount was left behind: %s", strings.TrimSpace(line)))
		}
	}
	tag := strings.TrimPrefix(filepath.Base(e.ExecRoot), "gt-")
	for _, pattern := range []string{"/sys/fs/cgroup/gantry-test-" + tag, "/sys/fs/cgroup/*/gantry-test-" + tag} {
		parents, _ := filepath.Glob(pattern)
		for _, p := range parents {
			children, _ := filepath.Glob(filepath.Join(p, "*", "cgroup.procs"))
			for _, c := range children {
				errs = append(errs, fmt.Errorf("cgroup was left behind: %s", filepath.Dir(c)))
				_ = os.Remove(filepath.Dir(c))
			}
			_ = os.Remove(p)
		}
	}
	return errs
}
