package testkit

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// OwnRegistry is our registry on loopback, as a process with its own folder. It ends with the test.
type OwnRegistry struct {
	Addr  string // host:port
	Debug string // host:port of its metrics
	Dir   string // of its data
	Log   string // file

	scheme string
	args   []string
	client *http.Client
	bin    string
	cmd    *exec.Cmd
}

// StartOwnRegistry starts `gantry registry serve` with further flags, and waits until it answers. https is for flags that give it
// a certificate; client, which may be nil, is who asks whether it answers.
func StartOwnRegistry(t testing.TB, https bool, client *http.Client, args ...string) *OwnRegistry {
	t.Helper()
	dir := t.TempDir()
	r := &OwnRegistry{
		Addr: freePort(t), Debug: freePort(t), Dir: filepath.Join(dir, "data"), Log: filepath.Join(dir, "log"), scheme: "http", args: args,
		client: client, bin: filepath.Join(Bin(t), "gantry"),
	}
	if https {
		r.scheme = "https"
	}
	if r.client == nil {
		r.client = http.DefaultClient
	}
	t.Cleanup(func() {
		r.Kill()
		if t.Failed() {
			b, _ := os.ReadFile(r.Log)
			t.Logf("the registry's log ends:\n%s", b[max(0, len(b)-4000):])
		}
	})
	r.Start(t)
	return r
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// URL is where it answers.
func (r *OwnRegistry) URL() string { return r.scheme + "://" + r.Addr }

// Start starts the process, again after Kill or Stop, at the same address.
func (r *OwnRegistry) Start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(r.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r.cmd = exec.Command(r.bin, append([]string{"registry", "serve", "--data", r.Dir, "--listen", r.Addr, "--debug-listen", r.Debug}, r.args...)...)
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 400 {
		if resp, err := r.client.Get(r.URL() + "/v2/"); err == nil {
			_ = resp.Body.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b, _ := os.ReadFile(r.Log)
	t.Fatalf("the registry does not answer:\n%s", b)
}

// PID is the process's.
func (r *OwnRegistry) PID() int { return r.cmd.Process.Pid }

// Signal sends the process a signal.
func (r *OwnRegistry) Signal(s os.Signal) error { return r.cmd.Process.Signal(s) }

// Kill ends the process as a crash would.
func (r *OwnRegistry) Kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// Stop asks the process to end, and waits for it.
func (r *OwnRegistry) Stop() error {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("ending the registry: %w", err)
	}
	return r.cmd.Wait()
}
