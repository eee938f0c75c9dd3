package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/authority"
)

// reaches asks the engine for what it alone knows.
var reaches = []string{"version", "-f", "{{.Server.Os}}"}

// Which engine a command is for: docker's order, GANTRY_HOST before DOCKER_HOST.
func TestCLIWhereTheEngineIs(t *testing.T) {
	e := testkit.Start(t, testkit.Options{})
	here, nowhere := "unix://"+e.Socket, "unix://"+filepath.Join(t.TempDir(), "nothing")
	s := newShell(t)
	s.must("context", "create", "here", "--docker", "host="+here)
	s.must("context", "create", "nowhere", "--docker", "host="+nowhere)
	good := func(what string, s *shell, program string, args ...string) {
		t.Helper()
		if r := s.run(program, append(args, reaches...)...); r.code != 0 || strings.TrimSpace(r.out) != "linux" {
			t.Errorf("%s: %+v", what, r)
		}
	}
	good("--host before GANTRY_HOST", s.with("GANTRY_HOST="+nowhere), "gantry", "--host", here)
	good("GANTRY_HOST before DOCKER_HOST", s.with("GANTRY_HOST="+here, "DOCKER_HOST="+nowhere), "gantry")
	good("GANTRY_HOST is not for docker", s.with("GANTRY_HOST="+nowhere, "DOCKER_HOST="+here), "as-docker")
	good("DOCKER_HOST before DOCKER_CONTEXT", s.with("DOCKER_HOST="+here, "DOCKER_CONTEXT=nowhere"), "gantry")
	good("--context before DOCKER_HOST", s.with("DOCKER_HOST="+nowhere), "gantry", "--context", "here")
	s.must("context", "use", "nowhere")
	good("DOCKER_CONTEXT before the one in use", s.with("DOCKER_CONTEXT=here"), "gantry")
	s.wants(1, nowhere, "ps")
	s.must("context", "use", "here")
	good("the one in use", s, "gantry")
	good("the same, read by docker", s, "docker")
	s.wants(1, "conflicting options", "--host", here, "--context", "here", "ps")
	s.wants(1, "Specify only one -H", "-H", here, "-H", here, "ps")
	s.wants(1, "context not found", "--context", "nosuch", "ps")
	s.with("DOCKER_CONTEXT=nosuch").wants(1, "context not found", "ps")
	s.wants(1, "invalid bind address", "-H", "foo://bar", "ps")
	s.wants(1, "npipe is for Windows only", "-H", "npipe:////./pipe/docker_engine", "ps")
}

// A message that says which socket, and what would help.
func TestCLISaysWhyTheEngineIsNotReached(t *testing.T) {
	dir, err := os.MkdirTemp("", "gt-cli-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	missing, dead, closed := filepath.Join(dir, "missing"), filepath.Join(dir, "dead"), filepath.Join(dir, "closed")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: closed}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(closed, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newShell(t)
	s.wants(1, "Cannot connect to the Gantry daemon at unix://"+missing+". Is the gantry daemon running?\nThe socket does not exist. Start the engine", "-H", "unix://"+missing, "ps")
	s.wants(1, "The socket is there, but nobody listens on it", "-H", "unix://"+dead, "ps")
	s.wants(1, "Nobody listens at that address", "-H", "tcp://127.0.0.1:1", "ps")
	if r := s.run("as-docker", "-H", "unix://"+missing, "ps"); r.err != "Cannot connect to the Docker daemon at unix://"+missing+". Is the docker daemon running?\n" {
		t.Errorf("under docker's name: %+v", r)
	}

	// Another user, who may run the program and see the socket, but not use it.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.bin["gantry"])
	if err != nil {
		t.Fatal(err)
	}
	s.bin["gantry"] = filepath.Join(dir, "gantry")
	if err := os.WriteFile(s.bin["gantry"], b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := s.with("HOME=/nonexistent").command("gantry", "-H", "unix://"+closed, "ps")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if code := status(t, err); code != 1 || !strings.Contains(string(out), "permission denied while trying to connect to the Gantry daemon socket at unix://"+closed) ||
		!strings.Contains(string(out), "member of the socket's group") {
		t.Errorf("exit %d, %s", code, out)
	}
}

// ssh://: what runs here is ssh with the right words, what runs there is our own bridge. The stand-in for ssh runs it on
// this machine.
func TestCLIOverSSH(t *testing.T) {
	e := engine(t)
	s := newShell(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := `#!/bin/sh
printf '%s\n' "$*" >>` + log + `
case "$*" in *refusing*) echo "ssh: connect to host refusing port 22: Connection refused" >&2; exit 255;; esac
for last; do :; done
PATH=` + filepath.Dir(s.bin["gantry"]) + `:$PATH GANTRY_HOST=unix://` + e.Socket + ` exec sh -c "$last"
`
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s = s.with("PATH=" + dir + ":" + os.Getenv("PATH"))
	said := func() string {
		b, _ := os.ReadFile(log)
		_ = os.Remove(log)
		return string(b)
	}
	remote := s.with("DOCKER_HOST=ssh://me@there:2222")
	remote.wants(0, "linux", reaches...)
	if words := said(); !strings.Contains(words, "-l me -p 2222 -- there ") || !strings.Contains(words, "system dial-stdio") {
		t.Errorf("ssh was called as %s", words)
	}
	remote.wants(4, "over ssh", "run", "--rm", "bb", "sh", "-c", "echo over ssh; exit 4")
	cmd := remote.command("gantry", "run", "--rm", "-i", "bb", "wc", "-c")
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 300_000))
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != "300000" {
		t.Errorf("300,000 bytes through ssh: %q, %v", out, err)
	}
	s.with("GANTRY_HOST=ssh://there"+e.Socket).wants(0, "linux", reaches...)
	if words := said(); !strings.Contains(words, "--host 'unix://"+e.Socket+"' system dial-stdio") {
		t.Errorf("a socket's path over ssh: %s", words)
	}
	s.wants(1, "ssh: connect to host refusing port 22: Connection refused", "-H", "ssh://refusing", "ps")
	s.wants(1, "plain-text password is not supported", "-H", "ssh://me:secret@there", "ps")
	s.wants(1, "no host specified", "-H", "ssh:///run/x", "ps")
	s.wants(1, "query parameters are not allowed", "-H", "ssh://there?x=y", "ps")
	s.must("context", "create", "far", "--docker", "host=ssh://there")
	s.wants(0, "linux", append([]string{"--context", "far"}, reaches...)...)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TCP with TLS in all the ways to say it: flags, variables, a context.
func TestCLIOverTLS(t *testing.T) {
	ours, others := authority.New(t), authority.New(t)
	ours.Issue(t, "server")
	ours.Issue(t, "cert")
	if err := os.Rename(ours.Path("cert-key.pem"), ours.Path("key.pem")); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	testkit.Start(t, testkit.Options{Args: []string{"-H", fmt.Sprintf("tcp://127.0.0.1:%d", port), "--tlsverify", "--tlscacert", ours.Path("ca.pem"),
		"--tlscert", ours.Path("server.pem"), "--tlskey", ours.Path("server-key.pem")}})
	host := fmt.Sprintf("tcp://127.0.0.1:%d", port)
	s := newShell(t, "DOCKER_HOST="+host)
	good := func(s *shell, args ...string) { t.Helper(); s.wants(0, "linux", append(args, reaches...)...) }

	good(s.with("DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH="+ours.Dir))
	good(s.with("DOCKER_TLS=1", "DOCKER_CERT_PATH="+ours.Dir))
	good(s, "--tlsverify", "--tlscacert", ours.Path("ca.pem"), "--tlscert", ours.Path("cert.pem"), "--tlskey", ours.Path("key.pem"))
	good(s, "--tls", "--tlscacert", others.Path("ca.pem"), "--tlscert", ours.Path("cert.pem"), "--tlskey", ours.Path("key.pem")) // not verified
	good(s, "--config", ours.Dir, "--tlsverify")
	s.wants(1, "certificate", "--tlsverify", "--tlscacert", others.Path("ca.pem"), "--tlscert", ours.Path("cert.pem"), "--tlskey", ours.Path("key.pem"), "ps")
	s.wants(1, "certificate", "--tlsverify", "--tlscacert", ours.Path("ca.pem"), "ps") // the engine wants one of us, too
	s.wants(1, "could not read CA certificate", "--tlsverify", "--tlscacert", ours.Path("nosuch"), "ps")
	s.wants(1, "HTTPS server", "ps") // plain words to an engine that wants TLS

	s = s.with("DOCKER_HOST")
	s.must("context", "create", "sealed", "--docker", "host="+host+",ca="+ours.Path("ca.pem")+",cert="+ours.Path("cert.pem")+",key="+ours.Path("key.pem"))
	good(s, "--context", "sealed")
	s.must("context", "create", "careless", "--docker", "host="+host+",cert="+ours.Path("cert.pem")+",key="+ours.Path("key.pem")+",skip-tls-verify=true")
	good(s, "--context", "careless")
	if r := s.run("docker", append([]string{"--context", "sealed"}, reaches...)...); r.code != 0 {
		t.Errorf("docker does not get there with our context: %+v", r)
	}
	// Certificates travel with an exported context.
	file := ours.Path("sealed.tar")
	s.must("context", "export", "sealed", file)
	elsewhere := newShell(t)
	elsewhere.must("context", "import", "sealed", file)
	good(elsewhere, "--context", "sealed")
}
