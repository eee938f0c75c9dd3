package images

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/images/trust"
	"github.com/gantry-engine/gantry/internal/trust/policy"
	"github.com/gantry-engine/gantry/internal/trust/program"
)

// sentry has the guard look at images before they get a name, and before containers are made of them.
type sentry struct {
	*trust.Guard
	catalog  *catalog
	store    *blobs
	registry Registry
}

func newSentry(d Deps, c *catalog, s *blobs) *sentry {
	open := func(ctx context.Context, named reference.Named) (trust.Repository, error) {
		return d.Registry.Open(ctx, named, registry.AuthConfig{})
	}
	return &sentry{trust.New(d.Verifier, d.Content, open), c, s, d.Registry}
}

// Trust puts an image policy in force, or none (nil). What is here already is judged when it is used next.
func (s *sentry) Trust(p *policy.Policy) { s.Enforce(p) }

// admit tells whether a name may point to an image that is here, and keeps the proof.
func (s *sentry) admit(ctx context.Context, named reference.Named, target ocispec.Descriptor) error {
	if !s.Active() {
		return nil
	}
	proofs, err := s.Check(ctx, trust.Use{Named: named, Target: target})
	if err != nil {
		return err
	}
	return s.keep(ctx, target.Digest, proofs)
}

// keep stores proofs with an image that is here.
func (s *sentry) keep(ctx context.Context, image digest.Digest, proofs []*trust.Proof) error {
	if len(proofs) == 0 {
		return nil
	}
	held, release, err := s.store.content.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	return diskFull(s.Keep(held, image, proofs))
}

// mayRun tells whether a container may be made of an image. name is what it was found by: a name, or its ID. By its ID an
// image may be used if it may be by one of its names, or without a name if the policy's default allows it.
func (s *sentry) mayRun(ctx context.Context, e *entry, name string) error {
	if !s.Active() {
		return nil
	}
	if name != e.target.Digest.String() {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return err
		}
		return s.admit(ctx, reference.TagNameOnly(named), e.target)
	}
	if len(e.names) == 0 {
		return s.admit(ctx, nil, e.target)
	}
	var first error
	for _, n := range e.names {
		named, err := reference.ParseNormalizedNamed(n)
		if err == nil {
			err = s.admit(ctx, named, e.target)
		}
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// fresh tells whether an image that is about to be made may get a name, canonical or empty.
func (s *sentry) fresh(name string) error {
	if name == "" || !s.Active() {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return err
	}
	return s.Fresh(named)
}

// signaturesLabel is the annotation by which an archive says which of its manifests are signatures of an image.
const signaturesLabel = "io.gantry.signatures"

// pack adds what is kept of an image's signatures to an archive.
func (s *sentry) pack(ctx context.Context, a *saving, target *ocispec.Descriptor) {
	var list []string
	for _, p := range s.Kept(ctx, target.Digest) {
		list = append(list, p.Manifest.Digest.String())
		a.blobs[p.Manifest.Digest] = p.Manifest
		for _, part := range p.Parts {
			a.blobs[part.Digest] = part.Descriptor
		}
	}
	if len(list) > 0 {
		slices.Sort(list)
		target.Annotations = map[string]string{signaturesLabel: strings.Join(list, ",")}
	}
}

// maxArchiveSignatures bounds how many signatures of an archive are looked at.
const maxArchiveSignatures = 256

// signatures are the archive's manifests that may be signatures: those that an image's annotation names, and those of the
// index that say so themselves.
func (a *archive) signatures() (list []digest.Digest) {
	if a.index == nil {
		return nil
	}
	for _, d := range a.index.Manifests {
		if trust.IsSignature(d) {
			list = append(list, d.Digest)
		}
		for _, x := range strings.Split(d.Annotations[signaturesLabel], ",") {
			if sig := digest.Digest(x); x != "" && sig.Validate() == nil {
				list = append(list, sig)
			}
		}
		if len(list) >= maxArchiveSignatures {
			return list[:maxArchiveSignatures]
		}
	}
	return list
}

// unpackInto keeps those of an archive's signatures that are of an image. Whether they are good is found out when they are needed.
func (s *sentry) unpackInto(ctx context.Context, image digest.Digest, signatures []digest.Digest) error {
	var proofs []*trust.Proof
	for _, d := range signatures {
		if p, err := s.Here(ctx, image, d); err == nil {
			proofs = append(proofs, p)
		}
	}
	return diskFull(s.Keep(ctx, image, proofs))
}

// Signature is one of an image, as clients see it.
type Signature struct {
	Manifest digest.Digest // what a registry keeps it under
	Here     bool          // it is kept with the image
	Remote   bool          // the registry has it
	program.Signature
}

// Signatures is what is known of an image's signatures.
type Signatures struct {
	Name       string // of the image, canonical
	Digest     digest.Digest
	MediaType  string
	Size       int64
	Here       digest.Digest `json:",omitempty"` // what the name leads to here, if anything
	Signatures []Signature
	Notes      []string `json:",omitempty"` // what could not be read
}

// SignatureOptions say whose signatures, and as whom a registry is asked.
type SignatureOptions struct {
	Image string
	// Local leaves the registry alone.
	Local bool
	Auth  registry.AuthConfig
}

// Signatures lists what signatures there are of an image, here and at its registry. None of them is verified.
func (s *sentry) Signatures(ctx context.Context, o SignatureOptions) (out Signatures, err error) {
	if o.Local {
		e, name, err := s.catalog.find(o.Image)
		if err != nil {
			return out, err
		}
		out = described(e.target)
		out.Name, out.Here = name, e.target.Digest
		s.list(&out, s.Kept(ctx, e.target.Digest), func(x *Signature) { x.Here = true })
		return out, nil
	}
	named, err := remoteName(o.Image, "")
	if err != nil {
		return out, err
	}
	named = reference.TagNameOnly(named)
	repo, err := s.registry.Open(ctx, named, o.Auth)
	if err != nil {
		return out, err
	}
	defer repo.Close()
	target, err := repo.Resolve(ctx, tagOf(named))
	if err != nil {
		return out, err
	}
	out = described(target)
	out.Name = named.String()
	if e, _, err := s.catalog.find(reference.FamiliarString(named)); err == nil {
		out.Here = e.target.Digest
	}
	found, notes, err := trust.Find(ctx, repo, target.Digest)
	if err != nil {
		return out, err
	}
	out.Notes = notes
	s.list(&out, found, func(x *Signature) { x.Remote = true })
	s.list(&out, s.Kept(ctx, target.Digest), func(x *Signature) { x.Here = true })
	return out, nil
}

func described(d ocispec.Descriptor) Signatures {
	return Signatures{Digest: d.Digest, MediaType: d.MediaType, Size: d.Size, Signatures: []Signature{}}
}

// list adds proofs that are not listed yet, and marks all of them.
func (s *sentry) list(out *Signatures, proofs []*trust.Proof, mark func(*Signature)) {
	for _, p := range proofs {
		known := false
		for i := range out.Signatures {
			if out.Signatures[i].Manifest == p.Manifest.Digest {
				known = true
				mark(&out.Signatures[i])
			}
		}
		if known {
			continue
		}
		for _, x := range p.Signatures() {
			sig := Signature{Manifest: p.Manifest.Digest, Signature: x}
			mark(&sig)
			out.Signatures = append(out.Signatures, sig)
		}
	}
}

// AttachOptions say what a new signature is of.
type AttachOptions struct {
	Image  string
	Digest digest.Digest // of what was signed
	Bundle []byte
	// Local keeps it with the image that is here; else it goes to the registry, too.
	Local bool
	Auth  registry.AuthConfig
}

// Attach adds a signature to an image: to the one that is here if it has that digest, and to the registry's.
func (s *sentry) Attach(ctx context.Context, o AttachOptions) (manifest digest.Digest, err error) {
	if err := o.Digest.Validate(); err != nil {
		return "", classed.Invalid("%q is no digest", o.Digest)
	}
	if o.Local {
		e, _, err := s.catalog.find(o.Image)
		if err != nil {
			return "", err
		}
		if e.target.Digest != o.Digest {
			return "", classed.Conflict("%s is %s now, not %s: sign it again", o.Image, e.target.Digest, o.Digest)
		}
		p, err := trust.NewProof(e.target, o.Bundle, time.Now())
		if err != nil {
			return "", err
		}
		return p.Manifest.Digest, s.keep(ctx, e.target.Digest, []*trust.Proof{p})
	}
	named, err := remoteName(o.Image, "")
	if err != nil {
		return "", err
	}
	repo, err := s.registry.Open(ctx, named, o.Auth)
	if err != nil {
		return "", err
	}
	defer repo.Close()
	target, err := repo.Resolve(ctx, o.Digest.String())
	if err != nil {
		return "", err
	}
	p, err := trust.NewProof(target, o.Bundle, time.Now())
	if err != nil {
		return "", err
	}
	if err := send(ctx, repo, target.Digest, p); err != nil {
		return "", err
	}
	if e := s.catalog.byExact(target.Digest); e != nil {
		err = s.keep(ctx, e.target.Digest, []*trust.Proof{p})
	}
	return p.Manifest.Digest, err
}

// send stores a proof in a registry.
func send(ctx context.Context, repo Repository, image digest.Digest, p *trust.Proof) error {
	for _, part := range p.Parts {
		has, err := repo.Has(ctx, part.Descriptor)
		if err != nil {
			return err
		}
		if has {
			continue
		}
		if _, err := repo.Upload(ctx, part.Descriptor, nil, func(offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(part.Body[offset:])), nil
		}); err != nil {
			return err
		}
	}
	return repo.Refer(ctx, image, p.Manifest, p.Body)
}

// sendKept sends what is kept of an image's signatures to where the image went, so that they can be verified there.
func (s *sentry) sendKept(ctx context.Context, repo Repository, image digest.Digest, out Progress) error {
	for _, p := range s.Kept(ctx, image) {
		if err := send(ctx, repo, image, p); err != nil {
			return classed.Errorf(errdefs.Resolve(err), "the image is pushed, its signature %s is not: %w", short(p.Manifest.Digest.String()), err)
		}
		out.Status("Signature " + short(p.Manifest.Digest.String()) + ": pushed")
	}
	return nil
}
