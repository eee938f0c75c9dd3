package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/images/transfer"
	"github.com/gantry-engine/gantry/internal/service/images/trust"
)

// intake is one image on its way in:
//
//	manifests ─► transfers of the layers ─► unpacked while they come ─► all blobs adopted in one commit ─► the name
//
// Until the last two steps the content store knows nothing of it: what fails leaves only what the next attempt goes on with.
type intake struct {
	*puller
	repo   Repository
	named  reference.Named
	target ocispec.Descriptor
	proofs []*trust.Proof // that the target may be used
	board  *board

	auth   registry.AuthConfig
	lazy   lazily                   // empty: all layers come in now
	served map[digest.Digest]Served // layers that do not come in now, by their blob
	kept   bool                     // the layer store has them

	source   string    // the repository, if it gives to everybody
	arrivals []Arrival // children before parents
	layers   map[digest.Digest]*transfer.Blob
}

// leave ends the part in what is still under way.
func (in *intake) leave() {
	for _, t := range in.layers {
		in.transfers.Leave(t)
	}
	in.layers = nil
	for _, s := range in.served {
		s.Release(in.kept)
	}
	in.served = nil
}

// pull does it all.
func (in *intake) pull(ctx context.Context, platform *ocispec.Platform) (*entry, error) {
	held, release, err := in.store.content.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	m, err := in.manifest(held, platform)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("gantryd.pull-described")
	if err := in.begin(held, m); err != nil {
		return nil, err
	}
	failpoint.Hit("gantryd.pull-begun")
	done, err := in.unpack(held, m)
	if err != nil {
		return nil, in.figure(m, err)
	}
	defer done()
	in.kept = true
	failpoint.Hit("gantryd.pull-unpacked")
	arrivals := slices.DeleteFunc(in.arrivals, func(a Arrival) bool { return in.served[a.Digest].Dir != "" })
	if err := in.store.content.Adopt(held, arrivals); err != nil {
		return nil, in.figure(m, diskFull(err))
	}
	failpoint.Hit("gantryd.pull-adopted")
	if err := in.sentry.Keep(held, in.target.Digest, in.proofs); err != nil {
		return nil, diskFull(err)
	}
	if _, err := in.catalog.point(held, in.named.String(), in.target); err != nil {
		return nil, err
	}
	failpoint.Hit("gantryd.pull-named")
	return in.catalog.byExact(in.target.Digest), nil
}

// manifest gets the manifest of the platform, with its configuration, and what leads to it.
func (in *intake) manifest(ctx context.Context, platform *ocispec.Platform) (*manifest, error) {
	d := in.target
	var above []Arrival
	if cimages.IsIndexType(d.MediaType) {
		idx, err := document[ocispec.Index](ctx, in, d, maxManifest)
		if err != nil {
			return nil, err
		}
		if len(idx.Manifests) > maxChildren {
			return nil, fmt.Errorf("the index %s has %d manifests, more than %d: %w", d.Digest, len(idx.Manifests), maxChildren, errdefs.ErrInvalidArgument)
		}
		chosen, attests, err := in.catalog.host.wanted(idx, platform)
		if err != nil {
			return nil, err
		}
		here, err := in.attestations(ctx, attests)
		if err != nil {
			return nil, err
		}
		above = append(above, Arrival{Digest: d.Digest, Size: d.Size, Labels: manifestLabels(idx, append(here, chosen.Digest)...)})
		d = chosen
	}
	raw, err := document[ocispec.Manifest](ctx, in, d, maxManifest)
	if err != nil {
		return nil, err
	}
	m := &manifest{desc: d, config: raw.Config, layers: raw.Layers}
	if err := m.acceptable(); err != nil {
		return nil, err
	}
	if m.image, err = document[imageConfig](ctx, in, m.config, maxConfig); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", d.Digest, err)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	if err := in.catalog.host.fits(m, in.named, platform); err != nil {
		return nil, err
	}
	for _, l := range m.layers {
		in.arrivals = append(in.arrivals, Arrival{Digest: l.Digest, Size: l.Size, Source: in.source})
	}
	in.arrivals = append(in.arrivals, Arrival{Digest: m.config.Digest, Size: m.config.Size}, Arrival{Digest: d.Digest, Size: d.Size, Labels: childLabels(m.children())})
	in.arrivals = append(in.arrivals, above...)
	return m, nil
}

// maxAttestation bounds a statement on an image, in bytes.
const maxAttestation = 16 << 20

// attestations gets what attests to the image: provenance, a list of what is in it. What the registry does not have, or is
// too large to be one, is left out. It returns the manifests that are here.
func (in *intake) attestations(ctx context.Context, list []ocispec.Descriptor) (here []digest.Digest, err error) {
	for _, d := range list[:min(maxAttestations, len(list))] {
		raw, err := document[ocispec.Manifest](ctx, in, d, maxManifest)
		var parts []Arrival
		for _, b := range append([]ocispec.Descriptor{raw.Config}, raw.Layers...) {
			if err != nil || len(raw.Layers) > maxLayers {
				break
			}
			_, err = document[json.RawMessage](ctx, in, b, maxAttestation)
			parts = append(parts, Arrival{Digest: b.Digest, Size: b.Size})
		}
		switch {
		case errdefs.IsNotFound(err), errdefs.IsInvalidArgument(err):
			continue
		case err != nil:
			return nil, fmt.Errorf("attestation %s: %w", d.Digest, err)
		}
		in.arrivals = append(in.arrivals, parts...)
		m := &manifest{config: raw.Config, layers: raw.Layers}
		in.arrivals = append(in.arrivals, Arrival{Digest: d.Digest, Size: d.Size, Labels: childLabels(m.children())})
		here = append(here, d.Digest)
	}
	return here, nil
}

// maxAttestations bounds how many are fetched.
const maxAttestations = 8

// document gets a manifest, an index or a configuration: of the store, or else of the registry.
func document[T any](ctx context.Context, in *intake, d ocispec.Descriptor, limit int64) (v T, err error) {
	if err := plausible(d); err != nil {
		return v, err
	}
	if d.Size > limit {
		return v, classed.Invalid("%s has %d bytes, more than %d", d.Digest, d.Size, limit)
	}
	if _, err := in.store.content.Blobs().Info(ctx, d.Digest); err == nil {
		return readJSON[T](ctx, in.store.content.Blobs(), d, limit)
	}
	r, err := in.repo.Fetch(ctx, d, 0)
	if err != nil {
		return v, err
	}
	defer r.Close()
	b, err := readAll(r, d)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%s is not the JSON it should be: %w: %w", d.Digest, err, errdefs.ErrInvalidArgument)
	}
	return v, in.put(d, b)
}

// put lets a document come in.
func (in *intake) put(d ocispec.Descriptor, b []byte) error {
	t := in.transfers.Join(d, func(context.Context, ocispec.Descriptor, int64) (io.ReadCloser, error) {
		return io.NopCloser(&late{b: b}), nil
	})
	defer in.transfers.Leave(t)
	return diskFull(t.Wait(context.Background()))
}

// plausible checks a descriptor before anything is asked for.
func plausible(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 {
		return classed.Invalid("invalid image: it names a part by the digest %q", d.Digest)
	}
	if d.Size < 0 {
		return classed.Invalid("invalid image: its part %s has a size of %d bytes", d.Digest, d.Size)
	}
	return nil
}

// acceptable checks what a manifest says of an image's parts.
func (m *manifest) acceptable() error {
	if !cimages.IsConfigType(m.config.MediaType) {
		return classed.Errorf(errdefs.ErrInvalidArgument, "%s is no image that can be run: its configuration has the type %q", m.desc.Digest, m.config.MediaType)
	}
	if len(m.layers) > maxLayers {
		return classed.Invalid("the manifest %s has %d layers, more than %d", m.desc.Digest, len(m.layers), maxLayers)
	}
	for _, d := range m.children() {
		if err := plausible(d); err != nil {
			return err
		}
	}
	return nil
}

// begin has the layers that are not here come in, and those that are here stay.
func (in *intake) begin(ctx context.Context, m *manifest) error {
	here, err := in.store.keepAll(ctx, m.layers)
	if err != nil {
		return err
	}
	in.layers = map[digest.Digest]*transfer.Blob{}
	in.serve(ctx, m, here)
	_, unpacked := in.store.layers.Unpacked(m.image.RootFS.DiffIDs)
	seen := map[digest.Digest]bool{}
	for _, l := range m.layers {
		if seen[l.Digest] {
			continue
		}
		seen[l.Digest] = true
		if here[l.Digest] {
			if unpacked {
				in.board.step(l.Digest, "Already exists")
			}
			continue
		}
		if _, ok := in.served[l.Digest]; ok {
			in.board.step(l.Digest, "Fetched when it is read")
			continue
		}
		in.board.step(l.Digest, "Pulling fs layer")
		t := in.transfers.Join(l, in.repo.Fetch)
		in.layers[l.Digest] = t
		in.board.follow(ctx, t)
	}
	return nil
}

// unpack unpacks all layers while they come in, and waits until all are here. done lets them be collected again.
func (in *intake) unpack(ctx context.Context, m *manifest) (done func(), err error) {
	layers := make([]Layer, len(m.layers))
	for i, l := range m.layers {
		diffID := m.image.RootFS.DiffIDs[i]
		layers[i] = Layer{DiffID: diffID, Open: func(ctx context.Context) (io.ReadCloser, error) {
			return in.open(ctx, l, diffID)
		}, Served: in.served[l.Digest]}
	}
	done, err = in.store.layers.Unpack(in.store.content.Context(ctx), layers)
	if err != nil {
		return nil, diskFull(in.cause(ctx, err))
	}
	for _, l := range m.layers {
		if t := in.layers[l.Digest]; t != nil {
			if err := t.Wait(ctx); err != nil {
				done()
				return nil, diskFull(err)
			}
			in.board.complete(l.Digest)
		}
	}
	return done, nil
}

// causePatience is how long is waited, after a layer could not be unpacked, for the word whether it is what it should be.
const causePatience = 5 * time.Second

// cause is why a layer could not be unpacked: what came in is none of the image's, or else it is the image's fault.
func (in *intake) cause(ctx context.Context, err error) error {
	wait, cancel := context.WithTimeout(ctx, causePatience)
	defer cancel()
	for _, t := range in.layers {
		if terr := t.Wait(wait); terr != nil && wait.Err() == nil {
			return terr
		}
	}
	return err
}

// open reads a layer, uncompressed, wherever it is.
func (in *intake) open(ctx context.Context, l ocispec.Descriptor, diffID digest.Digest) (io.ReadCloser, error) {
	t := in.layers[l.Digest]
	if t == nil {
		return in.store.openLayer(ctx, l, diffID)
	}
	z, err := decompress(in.board.extracting(l, t.Reader(ctx)))
	if err != nil {
		return nil, err
	}
	return z, nil
}

// figure says, when the disk is full, how much was to come.
func (in *intake) figure(m *manifest, err error) error {
	if !errors.Is(err, errdefs.ErrResourceExhausted) {
		return err
	}
	var all, rest int64
	for _, l := range m.layers {
		all += l.Size
		if t := in.layers[l.Digest]; t != nil {
			_, at, _, _ := t.State()
			rest += l.Size - at
			in.transfers.GiveUp(t) // containers that run need what room there is
		}
	}
	return fmt.Errorf("the image's layers are %d bytes compressed, %d of them still to come, and take more when they are unpacked: %w", all, rest, err)
}

// late reads bytes that are here.
type late struct {
	b  []byte
	at int
}

func (l *late) Read(p []byte) (int, error) {
	if l.at == len(l.b) {
		return 0, io.EOF
	}
	n := copy(p, l.b[l.at:])
	l.at += n
	return n, nil
}
