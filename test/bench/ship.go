package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What is shipped: layers of files with text and noise, about 500 MB compressed and 800 unpacked.
const (
	shipLayers = 8
	shipFiles  = 2000 // in each layer
	shipMean   = 48_000
	shipPort   = "5055"
	shipHost   = "127.0.0.1:" + shipPort
)

// warehouse is the storage of a docker-registry with the images "big:1", "big:2" (one small layer more) and "small:1" (that
// layer alone).
type warehouse struct {
	dir      string
	unpacked int64 // bytes of big:1's files
}

// stock fills a docker-registry's storage, in the layout in which it keeps it.
func stock(dir string) (*warehouse, error) {
	w := &warehouse{dir: dir}
	layers := make([]ocispec.Descriptor, shipLayers)
	diffs := make([]digest.Digest, shipLayers)
	errs := make([]error, shipLayers)
	var wg sync.WaitGroup
	turns := make(chan struct{}, 2)
	var mu sync.Mutex
	for i := range shipLayers {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			raw, size := shipLayer(i, shipFiles)
			mu.Lock()
			w.unpacked += size
			mu.Unlock()
			diffs[i] = digest.FromBytes(raw)
			layers[i], errs[i] = w.blob(ocispec.MediaTypeImageLayerGzip, compressed(raw))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	raw, _ := shipLayer(shipLayers, 20)
	extra, err := w.blob(ocispec.MediaTypeImageLayerGzip, compressed(raw))
	if err != nil {
		return nil, err
	}
	return w, errors.Join(
		w.image("big", "1", layers, diffs), w.image("big", "2", append(slices.Clone(layers), extra), append(slices.Clone(diffs), digest.FromBytes(raw))),
		w.image("small", "1", []ocispec.Descriptor{extra}, []digest.Digest{digest.FromBytes(raw)}))
}

// shipLayer is a layer's tar, and the size of its files.
func shipLayer(n, files int) (raw []byte, size int64) {
	r := rand.New(rand.NewPCG(7, uint64(n)))
	text := make([]byte, 0, 600_000)
	for len(text) < 500_000 {
		if r.IntN(100) < 45 {
			for range 256 {
				text = append(text, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()))
			}
			continue
		}
		for range 180 {
			text = append(text, fmt.Sprintf("%s ", strconv.FormatUint(uint64(r.IntN(4000))*2654435761, 36))...)
		}
	}
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	dir := func(name string) { _ = t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}) }
	dir("app/")
	dir(fmt.Sprintf("app/l%d/", n))
	for i := range files {
		if i%50 == 0 {
			dir(fmt.Sprintf("app/l%d/d%d/", n, i/50))
		}
		length := min(int(r.ExpFloat64()*shipMean), 250_000)
		from := r.IntN(200_000)
		_ = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("app/l%d/d%d/f%d", n, i/50, i), Mode: 0o644, Size: int64(length)})
		_, _ = t.Write(text[from : from+length])
		size += int64(length)
	}
	_ = t.Close()
	return b.Bytes(), size
}

func compressed(raw []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(raw)
	_ = z.Close()
	return b.Bytes()
}

func (w *warehouse) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir, "docker/registry/v2"}, parts...)...)
}

func (w *warehouse) blob(mediaType string, b []byte) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	hex := d.Digest.Encoded()
	return d, put(w.path("blobs/sha256", hex[:2], hex, "data"), b)
}

func put(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

func (w *warehouse) image(repo, tag string, layers []ocispec.Descriptor, diffs []digest.Digest) error {
	config, err := json.Marshal(ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: diffs}})
	if err != nil {
		return err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: layers}
	if m.Config, err = w.blob(ocispec.MediaTypeImageConfig, config); err != nil {
		return err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	d, err := w.blob(m.MediaType, body)
	if err != nil {
		return err
	}
	for _, l := range append([]ocispec.Descriptor{m.Config}, layers...) {
		err = errors.Join(err, put(w.path("repositories", repo, "_layers/sha256", l.Digest.Encoded(), "link"), []byte(l.Digest)))
	}
	return errors.Join(err,
		put(w.path("repositories", repo, "_manifests/revisions/sha256", d.Digest.Encoded(), "link"), []byte(d.Digest)),
		put(w.path("repositories", repo, "_manifests/tags", tag, "index/sha256", d.Digest.Encoded(), "link"), []byte(d.Digest)),
		put(w.path("repositories", repo, "_manifests/tags", tag, "current/link"), []byte(d.Digest)))
}

// serve starts a docker-registry with a storage in an engine's network namespace.
func (e *engine) serve(storage string) (stop func(), err error) {
	file := filepath.Join(filepath.Dir(storage), "registry.yml")
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp: {addr: \"%s\"}\n", storage, shipHost)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("nsenter", "-t", strconv.Itoa(e.daemon()), "-n", "docker-registry", "serve", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("docker-registry (Debian's package): %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for range 200 {
		if exec.Command("nsenter", "-t", strconv.Itoa(e.daemon()), "-n", "curl", "-sf", "http://"+shipHost+"/v2/").Run() == nil {
			return stop, nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	stop()
	return nil, errors.New("docker-registry does not answer")
}

// moves is a command of an engine that speaks to the registry.
func (e *engine) moves(verb, name string) *exec.Cmd {
	args := []string{verb, "-q"}
	if e.name == "podman" {
		args = append(args, "--tls-verify=false")
	}
	return e.command(append(args, shipHost+"/"+name)...)
}

// ship measures the way of images.
func ship(b *bench) ([]result, error) {
	tmp, err := os.MkdirTemp("/var/tmp", "gantry-bench-ship-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	w, err := stock(filepath.Join(tmp, "stock"))
	if err != nil {
		return nil, err
	}
	rows := []struct{ key, what, bar string }{
		{"pull", "cold pull, 8 layers, 500 MB of gzip, 16,000 files, from loopback", "≤ 0.5× the best peer"},
		{"cpu", "– CPU time of all processes of the engine", "reported"},
		{"disk", "– disk used after it, as a multiple of the files", "≤ 1.1×"},
		{"current", "pull of what is up to date", "≤ 20 ms"},
		{"more", "pull of one small layer more / of that layer alone", "≤ 1.3×"},
		{"push", "push of the same image to an empty registry", "≤ 0.5× the best peer"},
		{"save", "save of it to a file", "≤ 0.5× the best peer"},
		{"load", "load of it", "≤ 0.5× the best peer"},
	}
	got := map[string]map[string]sample{"alone": {}}
	for _, r := range rows {
		got[r.key] = map[string]sample{}
	}
	cells := map[string]map[string]string{"disk": {}}
	for _, known := range b.engines {
		e, err := b.fresh(known.name)
		if err != nil {
			return nil, err
		}
		err = e.shipped(w, tmp, func(key string, d time.Duration) { got[key][known.name] = append(got[key][known.name], d) }, cells["disk"])
		if err != nil {
			return nil, closing(e, err)
		}
		if err := e.destroy(); err != nil {
			return nil, err
		}
	}
	var out []result
	for _, row := range rows {
		r := result{what: row.what, bar: row.bar, cells: map[string]string{}}
		best := time.Duration(0)
		for _, e := range b.engines {
			s := got[row.key][e.name]
			switch {
			case row.key == "disk":
				r.cells[e.name] = cells["disk"][e.name]
			case row.key == "more" && len(s) > 0:
				alone := got["alone"][e.name]
				r.cells[e.name] = ms(s.median()) + " / " + ms(alone.median())
				if e == b.ours() {
					r.ratio = ratio(s.median(), alone.median()) + "×"
				}
			case len(s) > 0:
				r.cells[e.name] = ms(s.median())
			}
			if e != b.ours() && len(s) > 0 && (best == 0 || s.median() < best) {
				best = s.median()
			}
		}
		if strings.Contains(row.bar, "best peer") && best > 0 {
			r.ratio = ratio(got[row.key][b.ours().name].median(), best) + "× the best peer"
		}
		out = append(out, r)
	}
	return out, nil
}

// shipRounds is how often each way is gone.
const shipRounds = 3

func (e *engine) shipped(w *warehouse, tmp string, took func(string, time.Duration), disk map[string]string) error {
	stop, err := e.serve(w.dir)
	if err != nil {
		return err
	}
	defer func() { stop() }()
	timed := func(key string, cmd *exec.Cmd) error {
		d, err := timeCommand(cmd)
		took(key, d)
		return err
	}
	drop := func(names ...string) error {
		for _, n := range names {
			if _, err := e.must("rmi", "-f", shipHost+"/"+n); err != nil {
				return err
			}
		}
		time.Sleep(2 * time.Second) // deletions that go on behind the answer
		return nil
	}
	before := du(e.dir)
	for round := range shipRounds {
		if round > 0 {
			if err := drop("big:1"); err != nil {
				return err
			}
		}
		cpu := e.cpuTime()
		cmd := e.moves("pull", "big:1")
		if err := timed("pull", cmd); err != nil {
			return err
		}
		used := e.cpuTime() - cpu
		if e.name == "podman" { // it pulls by itself
			used = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		}
		took("cpu", used)
	}
	disk[e.name] = fmt.Sprintf("%.2f×", float64(settled(e.dir)-before)/float64(w.unpacked))
	for range 10 {
		if err := timed("current", e.moves("pull", "big:1")); err != nil {
			return err
		}
	}
	for range shipRounds {
		if err := timed("more", e.moves("pull", "big:2")); err != nil {
			return err
		}
		if err := drop("big:2"); err != nil {
			return err
		}
		if err := timed("alone", e.moves("pull", "small:1")); err != nil {
			return err
		}
		if err := drop("small:1"); err != nil {
			return err
		}
	}
	archive := filepath.Join(tmp, "saved.tar")
	for range shipRounds {
		_ = os.Remove(archive)
		if err := timed("save", e.command("save", "-o", archive, shipHost+"/big:1")); err != nil {
			return err
		}
	}
	stop()
	for round := range shipRounds {
		empty := filepath.Join(tmp, fmt.Sprintf("empty-%d", round))
		if stop, err = e.serve(empty); err != nil {
			return err
		}
		if err := timed("push", e.moves("push", "big:1")); err != nil {
			return err
		}
		stop()
		if err := os.RemoveAll(empty); err != nil {
			return err
		}
	}
	for range shipRounds {
		if err := drop("big:1"); err != nil {
			return err
		}
		if err := timed("load", e.command("load", "-q", "-i", archive)); err != nil {
			return err
		}
	}
	return nil
}

// settled is what a folder takes when that has not changed for a second, or after twenty: engines tidy up behind their answer.
func settled(dir string) int64 {
	was := du(dir)
	for range 10 {
		time.Sleep(2 * time.Second)
		now := du(dir)
		if now == was {
			break
		}
		was = now
	}
	return was
}

// du is what a folder takes on the disk, in bytes; what has several links counts once.
func du(dir string) (total int64) {
	seen := map[uint64]bool{}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went away
		}
		var st syscall.Stat_t
		if syscall.Lstat(path, &st) == nil && !seen[st.Ino] {
			seen[st.Ino] = true
			total += st.Blocks * 512
		}
		return nil
	})
	return total
}
