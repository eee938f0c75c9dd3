package lazy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/lazyproto"
	"github.com/gantry-engine/gantry/internal/service/images"
)

// Config says where things are and who is told.
type Config struct {
	Dir    string // <data root>/lazy
	Mounts string // <exec root>/lazy
	Socket string
	Exe    string // gantry-lazy
	// Version is this engine's: a gantry-lazy of another one is relieved.
	Version string
	// Access is how registries are reached now.
	Access func() lazyproto.Access
	// Offer makes a blob that is whole a download that came in: it gives the file a further name.
	Offer func(blob digest.Digest, path string) error
	Log   *slog.Logger
}

// Handler is told what becomes of layers. Implemented by service/images.
type Handler interface {
	// Arrived is called with a blob that is whole, once or more, until it returns nil.
	Arrived(ctx context.Context, l images.LazyLayer) error
	// Troubled is called when a layer does not come in, or is not what it should be.
	Troubled(l images.LazyLayer, why error)
}

var _ images.Lazy = (*Driver)(nil)

// Driver keeps the layers that are served.
type Driver struct {
	cfg  Config
	dial chan struct{} // holds one while somebody connects

	mu      sync.Mutex
	layers  map[digest.Digest]*held
	link    *link // nil if not connected
	handler Handler
	closed  bool
	started []time.Time // of the last gantry-lazys
}

// held is a layer that is served.
type held struct {
	layer lazyproto.Layer
	auth  registry.AuthConfig

	// Guarded by Driver.mu.
	note     []byte
	files    []*os.File // /dev/fuse and the blob; none if it is not mounted
	size     int64      // of its files
	entries  int64
	users    int // Serve's callers
	kept     bool
	whole    bool
	arriving bool
	dropped  bool // by us: it lives on for those who use it
	trouble  string
}

// New reads which layers there are. Nothing is started.
func New(cfg Config) (*Driver, error) {
	d := &Driver{cfg: cfg, dial: make(chan struct{}, 1), layers: map[digest.Digest]*held{}}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		r, err := readRecord(filepath.Join(cfg.Dir, e.Name()))
		if err != nil { // never finished
			if err := os.RemoveAll(filepath.Join(cfg.Dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		d.layers[r.Layer.Digest] = &held{layer: r.Layer, size: r.Size, entries: r.Entries, trouble: r.Trouble, kept: true}
	}
	return d, nil
}

// record is what is kept of a layer on disk.
type record struct {
	Layer   lazyproto.Layer `json:"layer"`
	Size    int64           `json:"size"`
	Entries int64           `json:"entries"`
	Trouble string          `json:"trouble,omitempty"`
}

func readRecord(dir string) (r record, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "layer.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil {
		err = r.Layer.Digest.Validate()
	}
	return r, err
}

func (d *Driver) write(h *held) error {
	dir := d.place(h.layer.Digest).Cache
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(record{h.layer, h.size, h.entries, h.trouble})
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, "layer.json"), b, 0o600)
}

func (d *Driver) place(blob digest.Digest) lazyproto.Place {
	return lazyproto.Place{Cache: filepath.Join(d.cfg.Dir, blob.Encoded()), Mount: filepath.Join(d.cfg.Mounts, blob.Encoded())}
}

// SetHandler fills the port that can only exist after this driver. It is called once, before Start.
func (d *Driver) SetHandler(h Handler) { d.handler = h }

// Start serves again what was served, and drops what no image has any more. Without layers nothing happens.
func (d *Driver) Start(ctx context.Context, wanted []digest.Digest) error {
	want := map[digest.Digest]bool{}
	for _, w := range wanted {
		want[w] = true
	}
	d.mu.Lock()
	var gone []digest.Digest
	for blob, h := range d.layers {
		if !want[h.layer.DiffID] {
			gone = append(gone, blob)
		}
	}
	none := len(d.layers) == 0
	d.mu.Unlock()
	if none {
		if _, err := os.Stat(d.cfg.Socket); err != nil {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	_, err := d.connected(ctx, !none && len(gone) < len(want))
	if none || errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	for _, blob := range gone {
		d.drop(ctx, blob)
	}
	d.hangUpIfIdle()
	return err
}

// startPatience bounds how long the daemon's start waits for layers to be served again: what is on disk of them does.
const startPatience = 10 * time.Second

// Serve implements images.Lazy.
func (d *Driver) Serve(ctx context.Context, l images.LazyLayer, auth registry.AuthConfig) (images.Served, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("gantry-lazy does not answer"))
	defer cancel()
	d.mu.Lock()
	h := d.layers[l.Blob.Digest]
	if h != nil && (h.dropped || h.trouble != "" || h.layer.TOC != l.TOC || h.layer.DiffID != l.DiffID) {
		d.mu.Unlock()
		return images.Served{}, fmt.Errorf("the layer was served before, and cannot be so again now: %w", errdefs.ErrNotImplemented)
	}
	if h == nil {
		h = &held{auth: auth, layer: lazyproto.Layer{
			Digest: l.Blob.Digest, Size: l.Blob.Size, MediaType: l.Blob.MediaType, DiffID: l.DiffID, TOC: l.TOC, Lowest: l.Lowest, Image: l.Image, Source: l.Source,
		}}
		d.layers[l.Blob.Digest] = h
	}
	h.users++
	mounted := h.files != nil
	d.mu.Unlock()
	if !mounted {
		if err := d.begin(ctx, h); err != nil {
			d.leave(h, false)
			return images.Served{}, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.served(h)
	var once sync.Once
	s.Release = func(kept bool) { once.Do(func() { d.leave(h, kept) }) }
	return s, nil
}

func (d *Driver) served(h *held) images.Served {
	return images.Served{Dir: d.place(h.layer.Digest).Mount, Size: h.size, Entries: h.entries}
}

// begin has a layer mounted and makes it known to later daemons.
func (d *Driver) begin(ctx context.Context, h *held) error {
	l, err := d.connected(ctx, true)
	if err != nil {
		return err
	}
	d.mu.Lock()
	mounted := h.files != nil // by who connected
	d.mu.Unlock()
	if !mounted {
		if err := d.ask(ctx, l, h, lazyproto.OpServe); err != nil {
			return err
		}
	}
	return d.write(h)
}

// ask has gantry-lazy serve a layer, afresh or going on with its session.
func (d *Driver) ask(ctx context.Context, l *link, h *held, op string) error {
	access, place := d.cfg.Access(), d.place(h.layer.Digest)
	access.Auth = h.auth
	d.mu.Lock()
	req := lazyproto.Request{Op: op, Layer: &h.layer, Place: &place, Access: &access, Digest: h.layer.Digest, Note: h.note, Whole: h.whole}
	var files []*os.File
	if op == lazyproto.OpAdopt {
		files = h.files
	}
	d.mu.Unlock()
	a, got, err := l.ask(ctx, req, files...)
	if err != nil {
		return err
	}
	if len(got) != 2 {
		lazyproto.CloseAll(got)
		return fmt.Errorf("gantry-lazy sent %d descriptors, not 2", len(got))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	lazyproto.CloseAll(h.files)
	h.files, h.note = got, a.Note
	if a.Size > 0 || a.Entries > 0 {
		h.size, h.entries = a.Size, a.Entries
	}
	return nil
}

// leave ends a hold of Serve's caller. What nobody has kept then is dropped.
func (d *Driver) leave(h *held, kept bool) {
	d.mu.Lock()
	h.users--
	h.kept = h.kept || kept
	gone, whole := h.users == 0 && !h.kept, h.whole
	d.mu.Unlock()
	switch {
	case gone:
		d.Drop(h.layer.DiffID)
	case whole: // it came in before there was an image that it is of
		go d.arrive(h)
	}
}

// State implements images.Lazy.
func (d *Driver) State(blob digest.Digest) (images.LazyState, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.layers[blob]
	if h == nil || h.dropped {
		return images.LazyState{}, false
	}
	s := images.LazyState{Served: d.served(h), Size: h.layer.Size, Error: h.trouble, Here: onDisk(h.files)}
	if h.whole {
		s.Here = s.Size
	}
	return s, true
}

// onDisk is how much of a blob's file is there, to a block of the file system.
func onDisk(files []*os.File) int64 {
	if len(files) < 2 {
		return 0
	}
	return allocated(files[1])
}

// Drop ends the service of a layer that neither an image nor a container to come needs as it is served.
func (d *Driver) Drop(diffID digest.Digest) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d.mu.Lock()
	var blobs []digest.Digest
	for blob, h := range d.layers {
		if h.layer.DiffID == diffID && h.users == 0 && !h.dropped {
			blobs = append(blobs, blob)
		}
	}
	d.mu.Unlock()
	for _, blob := range blobs {
		d.drop(ctx, blob)
	}
	d.hangUpIfIdle()
}

// drop unmounts a layer and removes what is kept of it. Its descriptors stay until nobody uses it.
func (d *Driver) drop(ctx context.Context, blob digest.Digest) {
	d.mu.Lock()
	h, l := d.layers[blob], d.link
	h.dropped = true
	if h.files == nil || l == nil || l.broken() {
		d.forget(blob)
	}
	d.mu.Unlock()
	p := d.place(blob)
	if l != nil {
		if _, _, err := l.ask(ctx, lazyproto.Request{Op: lazyproto.OpRelease, Digest: blob}); err != nil && !errors.Is(err, errGone) {
			d.cfg.Log.Warn("ending the service of a layer", "layer", blob, "error", err)
		}
	}
	detach(p.Mount)
	if err := os.RemoveAll(p.Cache); err != nil {
		d.cfg.Log.Warn("removing what is kept of a layer", "layer", blob, "error", err)
	}
}

// forget closes what is held of a layer. The caller holds mu.
func (d *Driver) forget(blob digest.Digest) {
	if h := d.layers[blob]; h != nil {
		lazyproto.CloseAll(h.files)
		h.files = nil
		delete(d.layers, blob)
	}
}

// Leave ends gantry-lazy: no container runs. What is here of the layers is gone on with at the next Start.
func (d *Driver) Leave(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	l := d.link
	var blobs []digest.Digest
	for blob := range d.layers {
		blobs = append(blobs, blob)
	}
	d.mu.Unlock()
	var errs []error
	if l != nil && !l.broken() {
		for _, blob := range blobs {
			if _, _, err := l.ask(ctx, lazyproto.Request{Op: lazyproto.OpRelease, Digest: blob}); err != nil && !errors.Is(err, errGone) {
				errs = append(errs, err)
			}
		}
		_ = l.conn.Send(lazyproto.Request{Op: lazyproto.OpLeave})
	}
	for _, blob := range blobs {
		detach(d.place(blob).Mount)
	}
	return errors.Join(append(errs, d.Close())...)
}

// Close hangs up. gantry-lazy goes on while it serves a layer.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.link != nil {
		d.link.close()
	}
	for _, h := range d.layers {
		lazyproto.CloseAll(h.files)
		h.files = nil
	}
	return nil
}

func (d *Driver) hangUpIfIdle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.layers) == 0 && d.link != nil {
		d.link.close()
		d.link = nil
	}
}

func (h *held) image() images.LazyLayer {
	return images.LazyLayer{
		Blob:   ocispec.Descriptor{MediaType: h.layer.MediaType, Digest: h.layer.Digest, Size: h.layer.Size},
		DiffID: h.layer.DiffID, TOC: h.layer.TOC, Lowest: h.layer.Lowest, Image: h.layer.Image, Source: h.layer.Source,
	}
}
