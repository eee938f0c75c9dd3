package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
)

// What the registries' clients do.
const (
	registryClients = 64
	registryBlob    = 4 << 20 // bytes
	registryRounds  = 3       // blobs that each client pushes, and pulls
	registrySpan    = 3 * time.Second

	registryManifest = "application/vnd.oci.image.manifest.v1+json"
)

// registryServer is a registry that runs, ours or Debian's docker-registry.
type registryServer struct {
	name string
	addr string
	stop func()
	// Figures: bytes per second and requests per second.
	push, pull, requests float64
}

// registries measures our registry beside docker-registry: 64 clients each, on loopback, with storage on the same disk. The
// clients speak plain HTTP by hand, so that what is measured is the server; both registries write no access log.
func registries(b *bench) ([]result, error) {
	tmp, err := os.MkdirTemp("/var/tmp", "gantry-bench-registry-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	ours, err := startOurs(b.bin, filepath.Join(tmp, "ours"))
	if err != nil {
		return nil, err
	}
	defer ours.stop()
	theirs, err := startTheirs(filepath.Join(tmp, "theirs"))
	if err != nil {
		return nil, err
	}
	defer theirs.stop()
	for round := range registryRounds {
		for _, r := range []*registryServer{ours, theirs} {
			if b.ctx.Err() != nil {
				return nil, b.ctx.Err()
			}
			if err := r.measure(uint64(round)); err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	row := func(what string, show func(float64) string, a, b float64) result {
		return result{what: what, bar: "≥ 2× docker-registry", ratio: fmt.Sprintf("%.1f×", a/b), cells: map[string]string{"gantry": show(a), "docker": show(b) + " (docker-registry)"}}
	}
	perSecond := func(v float64) string { return fmt.Sprintf("%.0f/s", v) }
	return []result{
		row("our registry: push of blobs of 4 MiB, 64 clients", rate, ours.push/1e6, theirs.push/1e6),
		row("– pull of them", rate, ours.pull/1e6, theirs.pull/1e6),
		row("– manifests, 64 clients", perSecond, ours.requests, theirs.requests),
	}, nil
}

func startOurs(bin, dir string) (*registryServer, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(filepath.Dir(dir), "ours.yaml")
	if err := os.WriteFile(config, []byte("log: {level: error, access: false}\n"), 0o600); err != nil {
		return nil, err
	}
	return startServer("gantry-registry", addr, exec.Command(filepath.Join(bin, "gantry-registry"), "serve", "--config", config, "--data", dir, "--listen", addr))
}

func startTheirs(dir string) (*registryServer, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(filepath.Dir(dir), "theirs.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %s}\n  cache: {blobdescriptor: inmemory}\nhttp: {addr: \"%s\"}\n", dir, addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return startServer("docker-registry", addr, exec.Command("docker-registry", "serve", config))
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func startServer(name, addr string, cmd *exec.Cmd) (*registryServer, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for range 400 {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return &registryServer{name: name, addr: addr, stop: stop}, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return nil, fmt.Errorf("%s does not answer", name)
}

// measure pushes, pulls and asks, and keeps the best figures.
func (r *registryServer) measure(round uint64) error {
	blobs := make([]blob, registryClients)
	for i := range blobs {
		blobs[i] = newBlob(round, uint64(i))
	}
	syscall.Sync() // each begins with nothing to be written any more
	took, err := r.all(func(i int, c *wire) error { return c.push("bench/app", blobs[i]) })
	if err != nil {
		return err
	}
	r.push = max(r.push, float64(registryClients*registryBlob)/took.Seconds())
	took, err = r.all(func(i int, c *wire) error {
		_, n, err := c.ask("GET", "/v2/bench/app/blobs/"+blobs[i].digest, "", nil)
		if err == nil && n != registryBlob {
			err = fmt.Errorf("a blob of %d bytes came with %d", registryBlob, n)
		}
		return err
	})
	if err != nil {
		return err
	}
	r.pull = max(r.pull, float64(registryClients*registryBlob)/took.Seconds())
	return r.small(blobs[0])
}

// small asks for a manifest again and again.
func (r *registryServer) small(b blob) error {
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"`+registryManifest+`","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},"layers":[]}`, b.digest, registryBlob)
	first, err := dialWire(r.addr)
	if err != nil {
		return err
	}
	defer first.Close()
	if status, _, err := first.ask("PUT", "/v2/bench/app/manifests/v1", registryManifest, []byte(manifest)); err != nil || status != 201 {
		return wrong("pushing a manifest: status %d", status, err)
	}
	var n atomic.Int64
	until := time.Now().Add(registrySpan)
	took, err := r.all(func(_ int, c *wire) error {
		for time.Now().Before(until) {
			status, size, err := c.ask("GET", "/v2/bench/app/manifests/v1", "", nil)
			if err != nil || status != 200 || size != int64(len(manifest)) {
				return wrong("a manifest: status %d, %d bytes", status, size, err)
			}
			n.Add(1)
		}
		return nil
	})
	r.requests = max(r.requests, float64(n.Load())/took.Seconds())
	return err
}

// all lets all clients do something at once, and gives the time until the last is done.
func (r *registryServer) all(do func(i int, c *wire) error) (time.Duration, error) {
	conns := make([]*wire, registryClients)
	for i := range conns {
		c, err := dialWire(r.addr)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		conns[i] = c
	}
	errs := make([]error, registryClients)
	var wg sync.WaitGroup
	begun := time.Now()
	for i, c := range conns {
		wg.Go(func() { errs[i] = do(i, c) })
	}
	wg.Wait()
	return time.Since(begun), errors.Join(errs...)
}

// blob is content that nobody has yet.
type blob struct {
	body   []byte
	digest string
}

func newBlob(round, client uint64) blob {
	b := blob{body: make([]byte, registryBlob)}
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], round)
	binary.LittleEndian.PutUint64(seed[8:], client)
	_, _ = rand.NewChaCha8(seed).Read(b.body)
	b.digest = digest.FromBytes(b.body).String()
	return b
}

// wire is a client that costs next to nothing: HTTP/1.1 by hand over one connection.
type wire struct {
	net.Conn
	r        *bufio.Reader
	host     string
	location string // of the last answer
}

func dialWire(addr string) (*wire, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c, r: bufio.NewReaderSize(c, 64<<10), host: addr}, nil
}

// push sends a blob as docker does: begin, all bytes, digest.
func (c *wire) push(repo string, b blob) error {
	if status, _, err := c.ask("POST", "/v2/"+repo+"/blobs/uploads/", "", []byte{}); err != nil || status != 202 {
		return wrong("beginning an upload: status %d", status, err)
	}
	if status, _, err := c.ask("PATCH", c.location, "application/octet-stream", b.body); err != nil || status != 202 {
		return wrong("sending a blob: status %d", status, err)
	}
	join := "?"
	if strings.Contains(c.location, "?") {
		join = "&"
	}
	if status, _, err := c.ask("PUT", c.location+join+"digest="+b.digest, "", []byte{}); err != nil || status != 201 {
		return wrong("closing an upload: status %d", status, err)
	}
	return nil
}

// nowhere is where bytes would go that the kernel is told to drop.
var nowhere = make([]byte, 1<<20)

// drop lets an answer's bytes go, without a copy of those that are still in the kernel.
func (c *wire) drop(n int64) error {
	buffered := min(n, int64(c.r.Buffered()))
	if _, err := c.r.Discard(int(buffered)); err != nil {
		return err
	}
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	for left := n - buffered; left > 0; {
		var got int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			got, _, failed = syscall.Recvfrom(int(fd), nowhere[:min(left, int64(len(nowhere)))], syscall.MSG_TRUNC)
			return !errors.Is(failed, syscall.EAGAIN)
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		if got == 0 {
			return io.ErrUnexpectedEOF
		}
		left -= int64(got)
	}
	return nil
}

// wrong is an answer that is not the one that was wanted.
func wrong(format string, args ...any) error {
	if args[len(args)-1] == nil {
		args[len(args)-1] = errors.New("no error")
	}
	return fmt.Errorf(format+": %w", args...)
}

// ask sends a request, and drops what is answered but its status and length.
func (c *wire) ask(method, path, contentType string, body []byte) (status int, size int64, err error) {
	head := method + " " + path + " HTTP/1.1\r\nHost: " + c.host + "\r\nAccept: " + registryManifest + "\r\n"
	if contentType != "" {
		head += "Content-Type: " + contentType + "\r\n"
	}
	if body != nil {
		head += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	parts := net.Buffers{[]byte(head + "\r\n"), body}
	if _, err := parts.WriteTo(c.Conn); err != nil {
		return 0, 0, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil || len(line) < 12 {
		return 0, 0, fmt.Errorf("no answer: %w", err)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, err
	}
	for {
		if line, err = c.r.ReadSlice('\n'); err != nil {
			return status, 0, err
		}
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		switch {
		case !ok:
			return status, size, c.drop(size)
		case bytes.EqualFold(name, []byte("content-length")):
			if size, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return status, 0, err
			}
		case bytes.EqualFold(name, []byte("location")):
			c.location = strings.TrimPrefix(string(value), "http://"+c.host)
		}
	}
}
