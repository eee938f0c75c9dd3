package images

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// danglingPrefix begins the names of images without a name of their own.
const danglingPrefix = "gantry-dangling@"

const (
	maxManifest = 4 << 20 // bytes; the distribution specification asks for no more
	maxConfig   = 8 << 20
	maxChildren = 1024 // manifests of one index
	maxLayers   = 1024
)

type kind uint8

const (
	kindImage kind = iota
	kindAttestation
	kindUnknown
)

// manifest is one platform's image, as parsed. It never changes.
type manifest struct {
	desc      ocispec.Descriptor
	kind      kind
	config    ocispec.Descriptor
	layers    []ocispec.Descriptor
	image     dockerspec.DockerOCIImage
	content   int64 // bytes of the blobs that are here
	available bool  // every blob is here
	subject   digest.Digest
}

// entry is one image: everything that has the same target. It never changes once it is in the index.
type entry struct {
	target    ocispec.Descriptor
	names     []string // canonical, sorted; without the dangling one
	tagged    time.Time
	manifests []*manifest
	content   int64
}

// index answers look-ups from memory.
type index struct {
	mu      sync.RWMutex
	byName  map[string]*entry
	byID    map[digest.Digest]*entry
	further map[digest.Digest]*entry // by digest of a platform's manifest or configuration
}

func (x *index) byDigest(d digest.Digest) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e := x.byID[d]; e != nil {
		return e
	}
	return x.further[d]
}

// all lists the entries, newest first.
func (x *index) all() []*entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]*entry, 0, len(x.byID))
	for _, e := range x.byID {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *entry) int {
		return cmp.Or(b.created().Compare(a.created()), strings.Compare(string(a.target.Digest), string(b.target.Digest)))
	})
	return out
}

// chains are the layers of all images.
func (x *index) chains() (keep [][]digest.Digest) {
	for _, e := range x.all() {
		for _, m := range e.manifests {
			if m.kind == kindImage && m.available {
				keep = append(keep, m.image.RootFS.DiffIDs)
			}
		}
	}
	return keep
}

func (e *entry) created() time.Time {
	for _, m := range e.manifests {
		if m.kind == kindImage && m.image.Created != nil {
			return *m.image.Created
		}
	}
	return time.Time{}
}

// find looks up what a user wrote: a name, name@digest, an ID or configuration
// digest, or a prefix of one. name is the familiar form, or the ID.
func (x *index) find(ref string) (e *entry, name string, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if d := digest.Digest(ref); strings.HasPrefix(ref, "sha256:") && d.Validate() == nil {
		if e = x.byID[d]; e == nil {
			e = x.further[d]
		}
		if e == nil {
			return nil, "", notFound(ref)
		}
		return e, e.target.Digest.String(), nil
	}
	prefix, isHex := hexPrefix(ref)
	if len(prefix) == 64 && isHex {
		d := digest.NewDigestFromEncoded(digest.SHA256, prefix)
		if e = cmp.Or(x.byID[d], x.further[d]); e != nil {
			return e, e.target.Digest.String(), nil
		}
		return nil, "", notFound(ref)
	}
	if !strings.HasPrefix(ref, "sha256:") {
		named, perr := reference.ParseNormalizedNamed(ref)
		if perr != nil {
			if !isHex {
				return nil, "", fmt.Errorf("%w: %w", perr, errdefs.ErrInvalidArgument)
			}
		} else if e, name = x.named(named); e != nil {
			return e, name, nil
		} else {
			ref = reference.FamiliarString(reference.TagNameOnly(named))
		}
	}
	if isHex && len(prefix) < 64 {
		e, err = x.prefixed(prefix)
		if err != nil || e != nil {
			return e, idOf(e), err
		}
		if strings.HasSuffix(ref, ":latest") && len(prefix) >= 12 {
			ref = strings.TrimSuffix(ref, ":latest")
		}
	}
	return nil, "", notFound(ref)
}

func idOf(e *entry) string {
	if e == nil {
		return ""
	}
	return e.target.Digest.String()
}

func (x *index) named(named reference.Named) (*entry, string) {
	if c, ok := named.(reference.Canonical); ok {
		e := cmp.Or(x.byID[c.Digest()], x.further[c.Digest()])
		if e == nil {
			return nil, ""
		}
		for _, n := range e.names {
			if r, err := reference.ParseNormalizedNamed(n); err == nil && r.Name() == named.Name() {
				return e, reference.FamiliarString(named)
			}
		}
		return nil, ""
	}
	named = reference.TagNameOnly(named)
	return x.byName[named.String()], reference.FamiliarString(named)
}

// prefixed finds the one image whose ID, or else manifest or configuration, begins so.
func (x *index) prefixed(prefix string) (*entry, error) {
	for _, m := range []map[digest.Digest]*entry{x.byID, x.further} {
		var found *entry
		for d, e := range m {
			if !strings.HasPrefix(d.Encoded(), prefix) || e == found {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("multiple images found with the prefix %q: give more digits of the ID: %w", prefix, errdefs.ErrInvalidArgument)
			}
			found = e
		}
		if found != nil {
			return found, nil
		}
	}
	return nil, nil
}

func hexPrefix(ref string) (string, bool) {
	s := strings.TrimPrefix(ref, "sha256:")
	if len(s) < 2 || len(s) > 64 {
		return "", false
	}
	return s, strings.Trim(s, "0123456789abcdef") == ""
}

func notFound(ref string) error {
	return fmt.Errorf("No such image: %s%w", ref, quiet{errdefs.ErrNotFound})
}

// quiet gives an error a class without a text, for texts that clients compare.
type quiet struct{ class error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.class }

// reload reads the names again; what was parsed before is taken over.
func (s *Service) reload(ctx context.Context) error {
	list, err := s.content.Images().List(s.content.Context(ctx))
	if err != nil {
		return err
	}
	s.idx.mu.RLock()
	old := s.idx.byID
	s.idx.mu.RUnlock()
	byID := map[digest.Digest]*entry{}
	for _, i := range list {
		e := byID[i.Target.Digest]
		if e == nil {
			e = &entry{target: i.Target}
			e.target.Annotations = nil
			if was := old[i.Target.Digest]; was != nil && was.whole() {
				e.manifests, e.content = was.manifests, was.content
			} else if err := s.parse(ctx, e); err != nil {
				s.log.Error("an image cannot be read and is left out", "name", i.Name, "error", err)
				continue
			}
			byID[i.Target.Digest] = e
		}
		if !strings.HasPrefix(i.Name, danglingPrefix) {
			e.names = append(e.names, i.Name)
		}
		if i.UpdatedAt.After(e.tagged) {
			e.tagged = i.UpdatedAt
		}
	}
	s.idx.replace(byID)
	return nil
}

func (e *entry) whole() bool {
	for _, m := range e.manifests {
		if !m.available {
			return false
		}
	}
	return true
}

func (x *index) replace(byID map[digest.Digest]*entry) {
	byName, further := map[string]*entry{}, map[digest.Digest]*entry{}
	for _, e := range byID {
		slices.Sort(e.names)
		for _, n := range e.names {
			byName[n] = e
		}
		for _, m := range e.manifests {
			if m.kind == kindImage && m.available {
				further[m.desc.Digest], further[m.config.Digest] = e, e
			}
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byID, x.byName, x.further = byID, byName, further
}

// parse reads an image's manifests and configurations.
func (s *blobs) parse(ctx context.Context, e *entry) error {
	ctx = s.content.Context(ctx)
	if !cimages.IsIndexType(e.target.MediaType) {
		m, err := s.parseManifest(ctx, e.target)
		if err != nil {
			return err
		}
		e.manifests, e.content = []*manifest{m}, m.content
		return nil
	}
	idx, err := readJSON[ocispec.Index](ctx, s.content.Blobs(), e.target, maxManifest)
	if err != nil {
		return err
	}
	if len(idx.Manifests) > maxChildren {
		return fmt.Errorf("the index %s has %d manifests, more than %d: %w", e.target.Digest, len(idx.Manifests), maxChildren, errdefs.ErrInvalidArgument)
	}
	e.content = e.target.Size
	for _, d := range idx.Manifests {
		if !cimages.IsManifestType(d.MediaType) {
			continue
		}
		m, err := s.parseManifest(ctx, d)
		if errdefs.IsNotFound(err) {
			m, err = &manifest{desc: d, kind: kindUnknown}, nil
		}
		if err != nil {
			return err
		}
		e.manifests = append(e.manifests, m)
		e.content += m.content
	}
	return nil
}

func (s *blobs) parseManifest(ctx context.Context, d ocispec.Descriptor) (*manifest, error) {
	blobs := s.content.Blobs()
	raw, err := readJSON[ocispec.Manifest](ctx, blobs, d, maxManifest)
	if err != nil {
		return nil, err
	}
	m := &manifest{desc: d, config: raw.Config, layers: raw.Layers, content: d.Size, available: true}
	if len(m.layers) > maxLayers {
		return nil, fmt.Errorf("the manifest %s has %d layers, more than %d: %w", d.Digest, len(m.layers), maxLayers, errdefs.ErrInvalidArgument)
	}
	for _, b := range append([]ocispec.Descriptor{m.config}, m.layers...) {
		if _, err := blobs.Info(ctx, b.Digest); errdefs.IsNotFound(err) {
			m.available = false
		} else if err != nil {
			return nil, err
		} else {
			m.content += b.Size
		}
	}
	switch {
	case d.Annotations["vnd.docker.reference.type"] == "attestation-manifest":
		m.kind, m.subject = kindAttestation, digest.Digest(d.Annotations["vnd.docker.reference.digest"])
		return m, nil
	case !cimages.IsConfigType(raw.Config.MediaType):
		m.kind = kindUnknown
		return m, nil
	}
	m.image, err = readJSON[dockerspec.DockerOCIImage](ctx, blobs, raw.Config, maxConfig)
	if errdefs.IsNotFound(err) {
		if d.Platform != nil {
			m.image.Platform = *d.Platform
		}
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", d.Digest, err)
	}
	return m, m.check()
}

// check compares a manifest with its configuration.
func (m *manifest) check() error {
	if len(m.image.RootFS.DiffIDs) != len(m.layers) {
		return fmt.Errorf("invalid image: the manifest %s has %d layers, its configuration %d diff IDs: %w", m.desc.Digest, len(m.layers), len(m.image.RootFS.DiffIDs), errdefs.ErrInvalidArgument)
	}
	for _, d := range m.image.RootFS.DiffIDs {
		if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
			return fmt.Errorf("invalid image: the configuration %s has the diff ID %q: %w", m.config.Digest, d, errdefs.ErrInvalidArgument)
		}
	}
	if m.image.OS == "" {
		m.image.OS = "linux"
	}
	return nil
}

// readJSON reads and decodes a blob of bounded size.
func readJSON[T any](ctx context.Context, p content.Provider, d ocispec.Descriptor, limit int64) (v T, err error) {
	if d.Size > limit {
		return v, fmt.Errorf("%s has %d bytes, more than %d: %w", d.Digest, d.Size, limit, errdefs.ErrInvalidArgument)
	}
	b, err := content.ReadBlob(ctx, p, d)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%s is not the JSON it should be: %w: %w", d.Digest, err, errdefs.ErrInvalidArgument)
	}
	return v, nil
}
