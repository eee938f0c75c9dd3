package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/trust/program"
)

// Types of what registries keep.
const (
	BundleType  = "application/vnd.dev.sigstore.bundle.v0.3+json"
	bundleTypes = "application/vnd.dev.sigstore.bundle"
	simpleType  = "application/vnd.dev.cosign.simplesigning.v1+json"
	simpleSig   = "dev.cosignproject.cosign/signature" // annotation
)

// Limits of what is read of strangers.
const (
	maxProofs    = 64 // manifests of one image
	maxManifest  = 256 << 10
	maxPart      = 1 << 20
	maxParts     = 64      // of one manifest
	maxAllProofs = 8 << 20 // bytes of one image's
)

// Proof is what a registry keeps of a signature: a manifest, and the blobs that it leads to.
type Proof struct {
	Manifest ocispec.Descriptor
	Body     []byte
	Parts    []Part

	signatures []program.Signature
}

// Part is a blob.
type Part struct {
	ocispec.Descriptor
	Body []byte
}

// Signatures are those in the proof: one bundle, or as many as cosign's older form has in one manifest.
func (p *Proof) Signatures() []program.Signature { return p.signatures }

// fetch reads a small blob whole, verified.
type fetch func(ctx context.Context, d ocispec.Descriptor, limit int64) ([]byte, error)

// readProof reads a manifest that may be a signature of subject, with its blobs.
func readProof(ctx context.Context, d ocispec.Descriptor, subject digest.Digest, get fetch) (*Proof, error) {
	p := &Proof{Manifest: d}
	var err error
	if p.Body, err = get(ctx, d, maxManifest); err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(p.Body, &m); err != nil {
		return nil, fmt.Errorf("it is not the JSON it should be: %w", err)
	}
	if m.Subject != nil && m.Subject.Digest != subject {
		return nil, fmt.Errorf("it refers to %s", m.Subject.Digest)
	}
	if len(m.Layers) > maxParts {
		return nil, fmt.Errorf("it has %d parts, more than %d", len(m.Layers), maxParts)
	}
	p.Manifest.ArtifactType, p.Manifest.Annotations = m.ArtifactType, m.Annotations
	for _, l := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		body, err := get(ctx, l, maxPart)
		if err != nil {
			return nil, err
		}
		p.Parts = append(p.Parts, Part{l, body})
		switch {
		case strings.HasPrefix(l.MediaType, bundleTypes):
			p.signatures = append(p.signatures, program.Signature{Kind: program.Bundle, Content: body})
		case l.MediaType == simpleType:
			p.signatures = append(p.signatures, program.Signature{Kind: program.Simple, Content: body, Sig: l.Annotations[simpleSig]})
		}
	}
	if len(p.signatures) == 0 {
		return nil, fmt.Errorf("there is no signature in it")
	}
	return p, nil
}

// size is how many bytes it has in all.
func (p *Proof) size() (n int) {
	n = len(p.Body)
	for _, b := range p.Parts {
		n += len(b.Body)
	}
	return n
}

// NewProof wraps a bundle as registries keep it: a manifest that refers to the image, of the form cosign writes.
func NewProof(subject ocispec.Descriptor, bundle []byte, now time.Time) (*Proof, error) {
	if len(bundle) > maxPart || !json.Valid(bundle) {
		return nil, classed.Invalid("a signature is a sigstore bundle: JSON of at most %d bytes", maxPart)
	}
	var b struct{ MediaType string }
	if err := json.Unmarshal(bundle, &b); err != nil || b.MediaType != BundleType {
		return nil, classed.Invalid("the bundle has the media type %q: %s is needed", clip(b.MediaType), BundleType)
	}
	empty := ocispec.DescriptorEmptyJSON
	empty.Data = nil
	layer := ocispec.Descriptor{MediaType: BundleType, Digest: digest.FromBytes(bundle), Size: int64(len(bundle))}
	body, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: BundleType, Config: empty, Layers: []ocispec.Descriptor{layer},
		Subject: &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations: map[string]string{
			ocispec.AnnotationCreated: now.UTC().Format(time.RFC3339), "dev.sigstore.bundle.content": "dsse-envelope",
			"dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
		},
	})
	if err != nil {
		return nil, err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body))}
	have := map[digest.Digest][]byte{d.Digest: body, empty.Digest: ocispec.DescriptorEmptyJSON.Data, layer.Digest: bundle}
	return readProof(context.Background(), d, subject.Digest, func(_ context.Context, d ocispec.Descriptor, _ int64) ([]byte, error) {
		if b, ok := have[d.Digest]; ok {
			return bytes.Clone(b), nil
		}
		return nil, fmt.Errorf("%s: %w", d.Digest, errdefs.ErrNotFound)
	})
}

// IsSignature tells whether a descriptor says of itself that it is of a signature.
func IsSignature(d ocispec.Descriptor) bool {
	return plausible(d) && strings.HasPrefix(d.ArtifactType, bundleTypes)
}

// plausible tells whether something of this type may be a signature. Lists do not always say.
func plausible(d ocispec.Descriptor) bool {
	return d.MediaType == ocispec.MediaTypeImageManifest && d.Digest.Validate() == nil && d.Digest.Algorithm() == digest.SHA256 &&
		(d.ArtifactType == "" || strings.HasPrefix(d.ArtifactType, bundleTypes) || d.ArtifactType == ocispec.MediaTypeEmptyJSON)
}

// clip bounds what a stranger wrote, and keeps it on one line.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}
