package server

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/testkit/authority"
)

func sock(t *testing.T) string {
	d, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	return filepath.Join(d, "sub", "s")
}

func TestUnixSocket(t *testing.T) {
	path := sock(t)
	ls, err := Listen("unix://"+path, ListenOptions{Group: "12345"})
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != fs.ModeSocket|0o660 || st.Sys().(*syscall.Stat_t).Gid != 12345 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if _, err := Listen("unix://"+path, ListenOptions{}); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("a second daemon: %v", err)
	}
	if err := ls[0].Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestStaleSocketIsReplacedAndOthersAreNot(t *testing.T) {
	path := sock(t)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	a, err := Listen("unix://"+path, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Another takes the path while we run: closing must not remove its socket.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	b, err := Listen("unix://"+path, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a[0].Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the other's socket went: %v", err)
	}
	b[0].Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix://"+path, ListenOptions{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a file in the way: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file in the way was overwritten")
	}
}

func TestGroup(t *testing.T) {
	if _, err := Listen("unix://"+sock(t), ListenOptions{Group: "no-such-group-here"}); err == nil || !strings.Contains(err.Error(), "no-such-group-here") {
		t.Errorf("an unknown group: %v", err)
	}
	ls, err := Listen("unix://"+sock(t), ListenOptions{Group: "no-such-group-here", GroupOptional: true})
	if err != nil {
		t.Fatal(err)
	}
	ls[0].Close()
}

func TestPlainTCPOnlyWhenAskedFor(t *testing.T) {
	if _, err := Listen("tcp://127.0.0.1:0", ListenOptions{}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "--tls=false") {
		t.Errorf("plain TCP: %v", err)
	}
	ls, err := Listen("tcp://127.0.0.1:0", ListenOptions{PlainTCP: true})
	if err != nil {
		t.Fatal(err)
	}
	ls[0].Close()
	if _, err := Listen("npipe:////./pipe/x", ListenOptions{}); err == nil {
		t.Error("a named pipe was accepted")
	}
}

func TestSocketActivationWithoutSystemd(t *testing.T) {
	t.Setenv("LISTEN_PID", "")
	if _, err := Listen("fd://", ListenOptions{}); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "socket activation") {
		t.Errorf("%v", err)
	}
}

func TestMutualTLS(t *testing.T) {
	ours, others := authority.New(t), authority.New(t)
	ours.Issue(t, "server")
	ours.Issue(t, "client")
	others.Issue(t, "client")
	file := ours.Path
	conf, err := TLSConfig(file("server.pem"), file("server-key.pem"), file("ca.pem"), true)
	if err != nil {
		t.Fatal(err)
	}
	ls, err := Listen("tcp://127.0.0.1:0", ListenOptions{TLS: conf})
	if err != nil {
		t.Fatal(err)
	}
	s := New(quiet(t.Output()))
	go func() { _ = s.Serve(ls[0]) }()
	defer s.http.Close()
	ping := func(certs ...tls.Certificate) error {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ours.Pool, Certificates: certs}}
		defer tr.CloseIdleConnections()
		res, err := (&http.Client{Transport: tr}).Get("https://" + ls[0].Addr().String() + "/_ping")
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	if err := ping(ours.Pair(t, "client")); err != nil {
		t.Errorf("with a good certificate: %v", err)
	}
	if err := ping(); err == nil {
		t.Error("without a certificate the API answered")
	}
	if err := ping(others.Pair(t, "client")); err == nil {
		t.Error("a stranger's certificate was accepted")
	}
	if _, err := http.Get("http://" + ls[0].Addr().String() + "/_ping"); err == nil {
		res, _ := http.Get("http://" + ls[0].Addr().String() + "/_ping")
		if res != nil && res.StatusCode == 200 {
			t.Error("plain HTTP was answered")
		}
	}
	for _, bad := range [][3]string{{"none.pem", "server-key.pem", "ca.pem"}, {"server.pem", "client-key.pem", "ca.pem"}, {"server.pem", "server-key.pem", "none.pem"}, {"server.pem", "server-key.pem", "ca-key.pem"}} {
		if _, err := TLSConfig(file(bad[0]), file(bad[1]), file(bad[2]), true); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "--tls") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
