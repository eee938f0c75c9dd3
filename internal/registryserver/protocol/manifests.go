package protocol

import (
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/registryserver/hooks"
	"github.com/gantry-engine/gantry/internal/registryserver/manifest"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// putManifest answers PUT of a manifest, under a tag or its digest.
func (x *exchange) putManifest() error {
	if err := x.checkReference(); err != nil {
		return err
	}
	if x.r.ContentLength > manifest.MaxSize {
		return refusal.ManifestTooLarge.New("the manifest has %d bytes, more than %d", x.r.ContentLength, manifest.MaxSize)
	}
	body, err := io.ReadAll(io.LimitReader(x.body(x.r.Context()), manifest.MaxSize+1))
	if err != nil {
		return refusal.ManifestInvalid.New("the manifest did not come whole: %w", err)
	}
	parsed, err := manifest.Parse(x.r.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	p := storage.Put{Repository: x.repo, Body: body, Parsed: parsed}
	if naming.IsDigest(x.reference) {
		p.Digest = digest.Digest(x.reference)
		if got := p.Digest.Algorithm().FromBytes(body); got != p.Digest {
			return refusal.DigestInvalid.New("the manifest's digest is %s, not %s", got, p.Digest)
		}
	} else {
		p.Tag, p.Digest = x.reference, digest.FromBytes(body)
	}
	if err := x.Changes.PutManifest(p); err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("Location", "/v2/"+x.repo+"/manifests/"+p.Digest.String())
	h.Set("Docker-Content-Digest", p.Digest.String())
	if parsed.Subject != "" {
		h.Set("OCI-Subject", parsed.Subject.String())
	}
	x.w.WriteHeader(http.StatusCreated)
	x.notify(hooks.Push, hooks.Target{MediaType: parsed.MediaType, Digest: p.Digest.String(), Size: int64(len(body)), Tag: p.Tag})
	return nil
}

// deleteManifest answers DELETE of a tag, or of a manifest with all its tags.
func (x *exchange) deleteManifest() error {
	if err := x.checkReference(); err != nil {
		return err
	}
	t := hooks.Target{}
	if naming.IsDigest(x.reference) {
		if _, err := x.Changes.DeleteManifest(x.repo, digest.Digest(x.reference)); err != nil {
			return err
		}
		t.Digest = x.reference
	} else {
		if err := x.Changes.DeleteTag(x.repo, x.reference); err != nil {
			return err
		}
		t.Tag = x.reference
	}
	x.w.WriteHeader(http.StatusAccepted)
	x.notify(hooks.Delete, t)
	return nil
}

// deleteBlob answers DELETE of a blob.
func (x *exchange) deleteBlob() error {
	d, err := naming.Digest(x.reference)
	if err != nil {
		return err
	}
	if err := x.Changes.DeleteBlob(x.repo, d); err != nil {
		return err
	}
	x.w.WriteHeader(http.StatusAccepted)
	x.notify(hooks.Delete, hooks.Target{Digest: d.String()})
	return nil
}
