package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
	"github.com/gantry-engine/gantry/internal/testkit/lazyimage"
)

// The application and the link to the registry that has it.
const (
	lazyFiles = 500 // of a megabyte
	linkRate  = "100mbit"
	linkHost  = "10.213.0.2:" + shipPort
	linkPage  = "http://127.0.0.1:8099/"
)

// application is an image with a web page and 500 MB that nobody asks for, in eStargz layers, which are ordinary gzip for others.
func (w *warehouse) application() error {
	bb, err := imagemaker.Busybox()
	if err != nil {
		return err
	}
	var layers []ocispec.Descriptor
	var diffs []digest.Digest
	for _, l := range []imagemaker.Layer{bb.Layers[0], lazyimage.Web(lazyFiles, 1<<20)} {
		made, err := lazyimage.Make(l)
		if err != nil {
			return err
		}
		d, err := w.blob(made.Desc.MediaType, made.Blob)
		if err != nil {
			return err
		}
		d.Annotations = made.Desc.Annotations
		layers, diffs = append(layers, d), append(diffs, made.DiffID)
	}
	return w.image("web", "1", layers, diffs)
}

// link is a network namespace with a registry, and a link of limited rate to an engine's.
type link struct{ holder, registry *exec.Cmd }

func inNetworkOf(pid int, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(pid), "-n"}, args...)...)
}

// connect makes the link, and starts a docker-registry at its other end.
func (e *engine) connect(storage string) (l *link, err error) {
	l = &link{holder: exec.Command("unshare", "-n", "sleep", "infinity")}
	l.holder.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := l.holder.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.cut()
		}
	}()
	there, here := l.holder.Process.Pid, e.daemon()
	time.Sleep(200 * time.Millisecond) // unshare takes a moment
	for _, c := range []*exec.Cmd{
		inNetworkOf(here, "ip", "link", "add", "slow0", "type", "veth", "peer", "name", "slow1", "netns", strconv.Itoa(there)),
		inNetworkOf(here, "ip", "addr", "add", "10.213.0.1/30", "dev", "slow0"), inNetworkOf(here, "ip", "link", "set", "slow0", "up"),
		inNetworkOf(there, "ip", "addr", "add", "10.213.0.2/30", "dev", "slow1"), inNetworkOf(there, "ip", "link", "set", "slow1", "up"), inNetworkOf(there, "ip", "link", "set", "lo", "up"),
		inNetworkOf(there, "tc", "qdisc", "add", "dev", "slow1", "root", "tbf", "rate", linkRate, "burst", "128kb", "latency", "50ms"),
	} {
		if out, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, out)
		}
	}
	file := filepath.Join(filepath.Dir(storage), "slow.yml")
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp: {addr: \"%s\"}\n", storage, linkHost)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	l.registry = inNetworkOf(there, "docker-registry", "serve", file)
	l.registry.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := l.registry.Start(); err != nil {
		return nil, fmt.Errorf("docker-registry (Debian's package): %w", err)
	}
	for range 200 {
		if inNetworkOf(here, "curl", "-sf", "http://"+linkHost+"/v2/").Run() == nil {
			return l, nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	return nil, errors.New("docker-registry does not answer over the link")
}

// cut ends it all; the link goes with its namespace.
func (l *link) cut() {
	for _, c := range []*exec.Cmd{l.registry, l.holder} {
		if c != nil && c.Process != nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
}

// received is how many bytes came over the link.
func (e *engine) received() int64 {
	out, err := inNetworkOf(e.daemon(), "cat", "/proc/net/dev").Output()
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(out)) {
		if name, rest, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "slow0" {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// firstAnswer pulls the application and runs it, until it answers.
func (e *engine) firstAnswer(pull ...string) (took time.Duration, bytes int64, err error) {
	before, begin := e.received(), time.Now()
	if e.name == "podman" {
		pull = append(pull, "--tls-verify=false")
	}
	if _, err := e.must(append(append([]string{"pull", "-q"}, pull...), linkHost+"/web:1")...); err != nil {
		return 0, 0, err
	}
	id, err := e.must("run", "-d", "--network", "host", linkHost+"/web:1", "/bin/httpd", "-f", "-p", "8099", "-h", "/www")
	if err != nil {
		return 0, 0, err
	}
	for inNetworkOf(e.daemon(), "curl", "-sf", "-o", "/dev/null", linkPage).Run() != nil {
		if time.Since(begin) > 5*time.Minute {
			return 0, 0, errors.New("the application does not answer")
		}
		time.Sleep(5 * time.Millisecond)
	}
	took, bytes = time.Since(begin), e.received()-before
	if _, err := e.must("rm", "-f", id); err != nil {
		return 0, 0, err
	}
	_, err = e.must("rmi", "-f", linkHost+"/web:1")
	time.Sleep(2 * time.Second) // deletions that go on behind the answer
	return took, bytes, err
}

// lazy measures how long an application that is not here takes to answer: pulled lazily by ours, in full by all.
func lazy(b *bench) ([]result, error) {
	tmp, err := os.MkdirTemp("/var/tmp", "gantry-bench-lazy-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	w := &warehouse{dir: filepath.Join(tmp, "stock")}
	if err := w.application(); err != nil {
		return nil, err
	}
	whole := result{what: "first answer over 100 Mbit/s, 500 MB, pulled in full", bar: "reported", cells: map[string]string{}}
	soon := result{what: "– pulled lazily", bar: "≥ 3× sooner", cells: map[string]string{}}
	part := result{what: "– bytes that came until then", bar: "< 30 %", cells: map[string]string{}}
	for _, known := range b.engines {
		if known.daemon == nil {
			continue // the link is between network namespaces of daemons
		}
		e, err := b.fresh(known.name, "--insecure-registry", linkHost)
		if err != nil {
			return nil, err
		}
		err = e.overLink(w, known == b.ours(), known.name, &whole, &soon, &part)
		if err != nil {
			return nil, closing(e, err)
		}
		if err := e.destroy(); err != nil {
			return nil, err
		}
	}
	return []result{whole, soon, part}, nil
}

func (e *engine) overLink(w *warehouse, ours bool, name string, whole, soon, part *result) error {
	l, err := e.connect(w.dir)
	if err != nil {
		return err
	}
	defer l.cut()
	full, all, err := e.firstAnswer()
	if err != nil {
		return err
	}
	whole.cells[name] = ms(full)
	if !ours {
		return nil
	}
	took, bytes, err := e.firstAnswer("--lazy")
	if err != nil {
		return err
	}
	soon.cells[name], part.cells[name] = ms(took), fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	soon.ratio, part.ratio = ratio(full, took)+"× sooner", fmt.Sprintf("%.1f %%", 100*float64(bytes)/float64(all))
	return nil
}
