package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/log"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"

	fake "github.com/gantry-engine/gantry/internal/testkit/registry"
)

// TestMain puts a proxy before all hosts that are not this one: whatever their name, they are reached on the loopback
// interface. Hosts of this machine may have any certificate, so that only other names can show that certificates are checked.
func TestMain(m *testing.M) {
	_ = log.SetLevel("error") // of the package for hosts, which tells about each one
	proxy := httptest.NewServer(http.HandlerFunc(tunnel))
	for _, v := range []string{"HTTP_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy"} {
		_ = os.Unsetenv(v)
	}
	_ = os.Setenv("HTTPS_PROXY", proxy.URL)
	code := m.Run()
	proxy.CloseClientConnections()
	proxy.Close()
	os.Exit(code)
}

func tunnel(w http.ResponseWriter, req *http.Request) {
	_, port, _ := net.SplitHostPort(req.Host)
	server, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// pauses are the waits that a client wanted. Nobody waits for them.
type pauses struct {
	mu  sync.Mutex
	all []time.Duration
}

func (p *pauses) sleep(ctx context.Context, d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, d)
	return context.Cause(ctx)
}

func client(t *testing.T, cfg Config) (*Client, *pauses) {
	t.Helper()
	c, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &pauses{}
	c.sleep = p.sleep
	return c, p
}

// repository opens "host/app" or another name.
func repository(t *testing.T, c *Client, name string, auth registry.AuthConfig) *Repository {
	t.Helper()
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Repository(t.Context(), named, auth)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// app opens the repository app of a registry, with a client of its own.
func app(t *testing.T, reg *fake.Registry) (*Repository, *pauses) {
	t.Helper()
	c, p := client(t, Config{})
	return repository(t, c, reg.Host+"/app", registry.AuthConfig{}), p
}

// noise is content of a size that no compression makes smaller, the same in each run.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// wants checks an error's text and class; is may be nil.
func wants(t *testing.T, err error, is error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, but one with %q is wanted", texts)
	}
	if is != nil && !errors.Is(err, is) {
		t.Errorf("the error %q is not of the class %q", err, is)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error %q does not say %q", err, text)
		}
	}
}

// count checks how many requests there were.
func count(t *testing.T, reg *fake.Registry, method, path string, n int) []fake.Request {
	t.Helper()
	got := reg.Requests(method, path)
	if len(got) != n {
		t.Errorf("%d requests %s %s, want %d:%s", len(got), method, path, n, listed(got))
	}
	return got
}

func listed(requests []fake.Request) string {
	var b strings.Builder
	for _, e := range requests {
		fmt.Fprintf(&b, "\n\t%s %s %s → %d, %d bytes at %d", e.Method, e.Path, e.Header.Get("Range"), e.Status, e.Bytes, e.Offset)
	}
	return b.String()
}

// once checks that no byte was transferred twice.
func once(t *testing.T, requests []fake.Request) {
	t.Helper()
	if at := fake.Twice(requests); at >= 0 {
		t.Errorf("byte %d was transferred twice:%s", at, listed(requests))
	}
}

func same(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes are not the %d that are wanted", len(got), len(want))
	}
}
