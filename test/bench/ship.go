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
	emptyHost  = "127.0.0.1:5056" // of the registry that images are pushed to
)

// warehouse is the storage of a docker-registry with the images "big:1", "big:2" (one small layer more) and "small:1" (that
// layer alone).
type warehouse struct {
	dir      string
	archive  string // big:1 as docker save writes it: layers that are not compressed
	unpacked int64  // bytes of big:1's files
}

// stock fills a docker-registry's storage, in the layout in which it keeps it.
func stock(dir string) (*warehouse, error) {
	w := &warehouse{dir: dir, archive: dir + ".tar"}
	raws := make([][]byte, shipLayers)
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
			raws[i], diffs[i] = raw, digest.FromBytes(raw)
			layers[i], errs[i] = w.blob(ocispec.MediaTypeImageLayerGzip, compressed(raw))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := w.pack("big:1", raws, diffs); err != nil {
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

// pack writes the archive that load is measured with.
func (w *warehouse) pack(name string, raws [][]byte, diffs []digest.Digest) error {
	f, err := os.Create(w.archive)
	if err != nil {
		return err
	}
	t := tar.NewWriter(f)
	file := func(name string, b []byte) {
		err = errors.Join(err, t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(b))}))
		_, werr := t.Write(b)
		err = errors.Join(err, werr)
	}
	config, err := json.Marshal(ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: diffs}})
	if err != nil {
		return err
	}
	id := digest.FromBytes(config).Encoded()
	file(id+".json", config)
	layers := make([]string, len(raws))
	for i, raw := range raws {
		layers[i] = diffs[i].Encoded() + "/layer.tar"
		file(layers[i], raw)
	}
	manifest, merr := json.Marshal([]map[string]any{{"Config": id + ".json", "RepoTags": []string{shipHost + "/" + name}, "Layers": layers}})
	file("manifest.json", manifest)
	return errors.Join(err, merr, t.Close(), f.Close())
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
func (e *engine) serve(storage, host string) (stop func(), err error) {
	file := storage + ".yml"
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp: {addr: \"%s\"}\n", storage, host)
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
		if exec.Command("nsenter", "-t", strconv.Itoa(e.daemon()), "-n", "curl", "-sf", "http://"+host+"/v2/").Run() == nil {
			return stop, nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	stop()
	return nil, errors.New("docker-registry does not answer")
}

// moves is a command of an engine that speaks to the registry.
func (e *engine) moves(verb, name string) *exec.Cmd { return e.movesAt(shipHost, verb, name) }

func (e *engine) movesAt(host, verb, name string) *exec.Cmd {
	args := []string{verb, "-q"}
	if e.name == "podman" {
		args = append(args, "--tls-verify=false")
	}
	return e.command(append(args, host+"/"+name)...)
}

// ship measures the way of images.
func ship(b *bench) (out []result, err error) {
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
		{"push", "push of the same image to another, empty registry", "≤ 0.5× the best peer"},
		{"orphan", "– when the registry it came from is gone", "reported"},
		{"save", "save of it to a file", "≤ 0.5× the best peer"},
		{"raw", "push of it after a load, its layers never compressed here", "≤ 0.5× the best peer"},
		{"load", "load of it, from an archive in docker save's form", "≤ 0.5× the best peer"},
	}
	got := map[string]map[string]sample{"alone": {}}
	for _, r := range rows {
		got[r.key] = map[string]sample{}
	}
	cells := map[string]map[string]string{"disk": {}}
	var all []*shipment
	defer func() {
		for _, s := range all {
			err = errors.Join(err, s.end())
		}
	}()
	for _, known := range b.engines {
		e, err := b.fresh(known.name)
		if err != nil {
			return nil, err
		}
		s := &shipment{e: e, w: w, tmp: filepath.Join(tmp, known.name)}
		s.took = func(key string, d time.Duration) { got[key][known.name] = append(got[key][known.name], d) }
		s.disk = func(times string) { cells["disk"][known.name] = times }
		all = append(all, s)
		if err := s.begin(); err != nil {
			return nil, err
		}
	}
	for _, step := range []struct {
		rounds int
		do     func(s *shipment, round int) error
	}{
		{shipRounds, (*shipment).pull}, {1, (*shipment).used}, {10, (*shipment).current}, {3 * shipRounds, (*shipment).more},
		{shipRounds, (*shipment).save}, {shipRounds, (*shipment).push}, {2, (*shipment).orphan}, {shipRounds, (*shipment).load}, {2, (*shipment).raw},
	} {
		for round := range step.rounds { // in turn, so that a machine that drifts drifts for all
			for _, s := range all {
				if err := step.do(s, round); err != nil {
					return nil, err
				}
			}
		}
	}
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
		if (strings.Contains(row.bar, "best peer") || row.key == "orphan") && best > 0 {
			r.ratio = ratio(got[row.key][b.ours().name].median(), best) + "× the best peer"
		}
		out = append(out, r)
	}
	return out, nil
}

// shipRounds is how often each way is gone.
const shipRounds = 3

// shipment is one engine on the way of images.
type shipment struct {
	e    *engine
	w    *warehouse
	tmp  string
	took func(key string, d time.Duration)
	disk func(times string)

	before int64  // what the engine took without an image, in bytes
	source func() // stops the registry that images come from
}

func (s *shipment) begin() (err error) {
	if err := os.Mkdir(s.tmp, 0o755); err != nil {
		return err
	}
	s.before = du(s.e.dir)
	s.source, err = s.e.serve(s.w.dir, shipHost)
	return err
}

func (s *shipment) end() error {
	if s.source != nil {
		s.source()
	}
	return s.e.destroy()
}

// timed measures a command that begins with nothing to be written any more: what one engine leaves to the disk would else be
// the next one's wait.
func (s *shipment) timed(key string, cmd *exec.Cmd) error {
	syscall.Sync()
	d, err := timeCommand(cmd)
	s.took(key, d)
	return err
}

// drop removes an image, and waits for deletions that go on behind the answer.
func (s *shipment) drop(name string) error {
	_, err := s.e.must("rmi", "-f", name)
	time.Sleep(2 * time.Second)
	return err
}

func (s *shipment) pull(round int) error {
	if round > 0 {
		if err := s.drop(shipHost + "/big:1"); err != nil {
			return err
		}
	}
	cpu := s.e.cpuTime()
	cmd := s.e.moves("pull", "big:1")
	if err := s.timed("pull", cmd); err != nil {
		return err
	}
	used := s.e.cpuTime() - cpu
	if s.e.name == "podman" { // it pulls by itself
		used = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	s.took("cpu", used)
	return nil
}

func (s *shipment) used(int) error {
	s.disk(fmt.Sprintf("%.2f×", float64(settled(s.e.dir)-s.before)/float64(s.w.unpacked)))
	return nil
}

func (s *shipment) current(int) error { return s.timed("current", s.e.moves("pull", "big:1")) }

func (s *shipment) more(int) error {
	for _, m := range []struct{ key, name string }{{"more", "big:2"}, {"alone", "small:1"}} {
		if err := s.timed(m.key, s.e.moves("pull", m.name)); err != nil {
			return err
		}
		if err := s.drop(shipHost + "/" + m.name); err != nil {
			return err
		}
	}
	return nil
}

func (s *shipment) save(int) error {
	archive := filepath.Join(s.tmp, "saved.tar")
	defer os.Remove(archive)
	return s.timed("save", s.e.command("save", "-o", archive, shipHost+"/big:1"))
}

func (s *shipment) push(round int) error {
	if _, err := s.e.must("tag", shipHost+"/big:1", emptyHost+"/big:1"); err != nil {
		return err
	}
	return s.pushed("push", round)
}

// orphan pushes what the registry that it came from cannot be asked for.
func (s *shipment) orphan(round int) error {
	if round == 0 {
		s.source()
	}
	return s.pushed("orphan", round)
}

// raw pushes what was loaded.
func (s *shipment) raw(round int) error {
	if round > 0 { // an engine may know by now what its layers become
		if err := s.load(round); err != nil {
			return err
		}
	}
	if _, err := s.e.must("tag", shipHost+"/big:1", emptyHost+"/big:1"); err != nil {
		return err
	}
	err := s.pushed("raw", round)
	return errors.Join(err, s.drop(emptyHost+"/big:1"))
}

func (s *shipment) pushed(key string, round int) error {
	empty := filepath.Join(s.tmp, fmt.Sprintf("empty-%s-%d", key, round))
	halt, err := s.e.serve(empty, emptyHost)
	if err != nil {
		return err
	}
	err = s.timed(key, s.e.movesAt(emptyHost, "push", "big:1"))
	halt()
	return errors.Join(err, os.RemoveAll(empty))
}

func (s *shipment) load(round int) error {
	if round == 0 {
		if err := s.drop(emptyHost + "/big:1"); err != nil {
			return err
		}
	}
	if err := s.drop(shipHost + "/big:1"); err != nil {
		return err
	}
	return s.timed("load", s.e.command("load", "-q", "-i", s.w.archive))
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
