package testkit

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ForeignRegistry is Debian's docker-registry on loopback, with its own storage. It ends with the test.
type ForeignRegistry struct {
	Addr string // host:port
	Dir  string // of its storage

	stop func()
}

// Stop ends it before the test does.
func (r *ForeignRegistry) Stop() { r.stop() }

// RegistryOptions change how it is started.
type RegistryOptions struct {
	Htpasswd  string // content of the file of users; empty lets everybody in
	Cert, Key string // files; empty speaks plain HTTP
}

// StartForeignRegistry starts a docker-registry and waits until it answers.
func StartForeignRegistry(t testing.TB, o RegistryOptions) *ForeignRegistry {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %s}\n  delete: {enabled: true}\nhttp:\n  addr: %s\n", filepath.Join(dir, "data"), addr)
	if o.Cert != "" {
		config += fmt.Sprintf("  tls: {certificate: %s, key: %s}\n", o.Cert, o.Key)
	}
	if o.Htpasswd != "" {
		users := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(users, []byte(o.Htpasswd), 0o600); err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("auth:\n  htpasswd: {realm: test, path: %s}\n", users)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("docker-registry", "serve", file)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("docker-registry (Debian's package of that name): %v", err)
	}
	stop := sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	for range 200 {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return &ForeignRegistry{Addr: addr, Dir: filepath.Join(dir, "data"), stop: stop}
		}
		time.Sleep(25 * time.Millisecond)
	}
	b, _ := os.ReadFile(log.Name())
	t.Fatalf("docker-registry does not answer:\n%s", b)
	return nil
}

// Head asks the registry for a path and gives the status and the header.
func (r *ForeignRegistry) Head(t testing.TB, path string, accept ...string) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequest(http.MethodHead, "http://"+r.Addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Accept"] = accept
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header
}
