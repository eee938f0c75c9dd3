package main

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/authority"
)

// over asks the daemon for a ping on TCP, with TLS where a configuration is given.
func over(addr string, c *tls.Config) error {
	scheme := "http"
	if c != nil {
		scheme = "https"
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
	res, err := client.Get(scheme + "://" + addr + "/_ping")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		return errors.New(res.Status)
	}
	return nil
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestMutualTLS(t *testing.T) {
	a, stranger := authority.New(t), authority.New(t)
	a.Issue(t, "server")
	a.Issue(t, "client")
	stranger.Issue(t, "client")
	addr := freeAddr(t)
	launch(t, testkit.ShortTempDir(t), "-H", "tcp://"+addr, "--tlsverify", "--tlscacert", a.Path("ca.pem"), "--tlscert", a.Path("server.pem"), "--tlskey", a.Path("server-key.pem")).ready(t)
	with := func(who *authority.Authority) *tls.Config {
		return &tls.Config{RootCAs: a.Pool, Certificates: []tls.Certificate{who.Pair(t, "client")}}
	}
	if err := over(addr, with(a)); err != nil {
		t.Errorf("our client: %v", err)
	}
	old := with(a)
	old.MaxVersion = tls.VersionTLS11
	for what, c := range map[string]*tls.Config{"without a certificate": {RootCAs: a.Pool}, "of another CA": with(stranger), "of TLS 1.1": old, "without TLS": nil} {
		if err := over(addr, c); err == nil {
			t.Errorf("a client %s was let in", what)
		}
	}
}

// --tls alone encrypts and lets everybody in; certificates come from DOCKER_CERT_PATH too.
func TestTLSWithoutVerification(t *testing.T) {
	a := authority.New(t)
	a.Issue(t, "server")
	for from, to := range map[string]string{"server.pem": "cert.pem", "server-key.pem": "key.pem"} {
		if err := os.Rename(a.Path(from), a.Path(to)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DOCKER_CERT_PATH", a.Dir)
	addr := freeAddr(t)
	launch(t, testkit.ShortTempDir(t), "-H", "tcp://"+addr, "--tls").ready(t)
	if err := over(addr, &tls.Config{RootCAs: a.Pool}); err != nil {
		t.Error(err)
	}
	if err := over(addr, nil); err == nil {
		t.Error("plain HTTP was answered")
	}
}

// Several -H are all served; plain TCP only because --tls=false asks for it.
func TestSeveralHosts(t *testing.T) {
	dir := testkit.ShortTempDir(t)
	addr := freeAddr(t)
	p := launch(t, dir, "-H", "unix://"+dir+"/second", "-H", "tcp://"+addr, "--tls=false").ready(t)
	if err := over(addr, nil); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"/s", "/second"} {
		c, err := net.Dial("unix", dir+s)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if st, err := os.Stat(dir + s); err != nil || st.Mode() != fs.ModeSocket|0o660 {
			t.Errorf("%s has mode %v", s, st.Mode())
		}
	}
	if !strings.Contains(p.log.String(), "without TLS") {
		t.Error("the log does not warn of plain TCP")
	}
	p.signal(t, syscall.SIGTERM)
	p.exit(t)
	for _, s := range []string{"/s", "/second"} {
		if _, err := os.Stat(dir + s); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was left behind", s)
		}
	}
}

// One host that cannot be had fails the start, and the others are given back.
func TestOneBadHostFailsTheStart(t *testing.T) {
	dir := testkit.ShortTempDir(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := launch(t, dir, "-H", "tcp://"+l.Addr().String(), "--tls=false")
	if code := p.exit(t); code != 1 || !strings.Contains(p.log.String(), "address already in use") {
		t.Errorf("exit code %d: %s", code, p.log)
	}
	for _, f := range []string{"/s", "/pid"} {
		if _, err := os.Stat(dir + f); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was left behind", f)
		}
	}
}

// Under the name dockerd it reads Docker's file and listens where Docker's clients look.
func TestStartedAsDockerd(t *testing.T) {
	for _, dir := range []string{"/run", "/etc/docker"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
	write(t, "/etc/docker/daemon.json", `{"labels":["from=dockers-file"]}`)
	dir := testkit.ShortTempDir(t)
	link := dir + "/dockerd"
	if err := os.Symlink(filepath.Join(testkit.Bin(t), "gantryd"), link); err != nil {
		t.Fatal(err)
	}
	p := &process{dir: dir, log: &output{}, done: make(chan struct{})}
	p.cmd = exec.Command(link, "--data-root", dir+"/data", "--exec-root", dir+"/exec", "--bridge", "none", "--cgroup-parent", "/gantry-test-"+filepath.Base(dir))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.done; endKeeper(dir + "/exec"); endContainers(t, dir) })
	if err := os.Symlink("/run/docker.sock", dir+"/s"); err != nil { // where the helpers of this test look
		t.Fatal(err)
	}
	p.ready(t)
	if b, err := p.get("/info"); err != nil || !strings.Contains(b, "from=dockers-file") {
		t.Errorf("%s, %v", b, err)
	}
	if _, err := os.Stat("/var/run/docker.pid"); err != nil {
		t.Error(err)
	}
	out, err := exec.Command("docker", "-H", "unix:///var/run/docker.sock", "version", "--format", "{{.Server.Platform.Name}}").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "Gantry Engine" {
		t.Errorf("the official client: %s, %v", out, err)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d: %s", code, p.log)
	}
	for _, f := range []string{"/run/docker.sock", "/run/docker.pid"} {
		if _, err := os.Stat(f); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was left behind", f)
		}
	}
}
