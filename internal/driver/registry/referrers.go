package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// Limits of a list of referrers, whose pages have at most maxManifest bytes, and how often one under a tag is written.
const (
	listAttempts     = 5
	maxReferrerPages = 8
	maxReferrers     = 2000
)

// ReferrersTag is the tag under which registries that do not know of referrers have the list of them (OCI distribution
// specification 1.1, "Referrers Tag Schema").
func ReferrersTag(subject digest.Digest) string {
	return strings.ReplaceAll(subject.String(), ":", "-")
}

// Referrers lists the manifests that refer to another one. Hosts are asked in turn until one knows of some; where a registry
// does not know of referrers, the list is under a tag. None is no error.
func (r *Repository) Referrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	ctx = r.pulling(ctx)
	var last error
	for _, h := range r.with(docker.HostCapabilityResolve) {
		list, err := r.referrers(ctx, h, subject)
		if err == nil && len(list) > 0 {
			return list, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		last = err // the registry's own word, which comes last
		r.log.Debug("asking for referrers", "host", h.Host, "repository", r.name, "subject", subject, "error", err)
	}
	return nil, last
}

func (r *Repository) referrers(ctx context.Context, h *docker.RegistryHost, subject digest.Digest) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	q := request{method: http.MethodGet, path: "/" + r.name + "/referrers/" + subject.String(), header: http.Header{"Accept": {ocispec.MediaTypeImageIndex}}}
	for page := 0; ; page++ {
		resp, err := r.do(ctx, h, q)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK || mediaType(resp.Header) != ocispec.MediaTypeImageIndex {
			if page > 0 || resp.StatusCode == http.StatusUnauthorized || busy(resp) {
				return nil, r.pullError(subject.String(), refused(resp))
			}
			drain(resp) // 404 is what a registry says that does not know of referrers; some have a web page for every path
			return r.tagged(ctx, h, subject)
		}
		idx, err := readIndex(resp)
		if err != nil {
			return nil, err
		}
		list = append(list, idx.Manifests...)
		next := nextPage(resp)
		if next == nil || len(idx.Manifests) == 0 || q.location != nil && *next == *q.location {
			return list, nil
		}
		if page+1 == maxReferrerPages || len(list) > maxReferrers {
			return list, nil // more than anybody would look at
		}
		q.location = next
	}
}

// tagged reads the list that is under a tag.
func (r *Repository) tagged(ctx context.Context, h *docker.RegistryHost, subject digest.Digest) ([]ocispec.Descriptor, error) {
	resp, err := r.do(ctx, h, request{
		method: http.MethodGet, path: "/" + r.name + "/manifests/" + ReferrersTag(subject), header: http.Header{"Accept": {ocispec.MediaTypeImageIndex}},
	})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusNotFound {
		drain(resp)
		return nil, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, r.pullError(ReferrersTag(subject), refused(resp))
	}
	idx, err := readIndex(resp)
	return idx.Manifests, err
}

// readIndex reads an index that is an answer, and closes it.
func readIndex(resp *http.Response) (idx ocispec.Index, err error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return idx, fmt.Errorf("reading the list of referrers: %w", err)
	}
	if len(b) > maxManifest {
		return idx, classed.Invalid("the registry %s sends a list of referrers of more than %d bytes", resp.Request.URL.Host, maxManifest)
	}
	if err := json.Unmarshal(b, &idx); err != nil {
		return idx, classed.Invalid("the registry %s sends a list of referrers that is not the JSON it should be: %v", resp.Request.URL.Host, err)
	}
	return idx, nil
}

// Refer stores a manifest that refers to subject, and has Referrers find it: at a registry that does not know of referrers it
// is added to the list under the tag. d describes the manifest, with its artifact type and annotations.
func (r *Repository) Refer(ctx context.Context, subject digest.Digest, d ocispec.Descriptor, body []byte) error {
	ctx = r.pushing(ctx)
	resp, err := r.do(ctx, r.registry(), request{
		method: http.MethodPut, path: "/" + r.name + "/manifests/" + d.Digest.String(), header: http.Header{"Content-Type": {d.MediaType}},
		body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }, length: int64(len(body)),
	})
	if err != nil {
		return r.pushError(err)
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
		return r.pushError(refused(resp))
	}
	drain(resp)
	if resp.Header.Get("OCI-Subject") != "" {
		return nil
	}
	// Another one who adds to the list at the same time would take ours off it: it is looked at again.
	for range listAttempts {
		list, err := r.tagged(ctx, r.registry(), subject)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(list, func(x ocispec.Descriptor) bool { return x.Digest == d.Digest }) {
			return nil
		}
		idx, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append(list, d)})
		if err != nil {
			return err
		}
		if len(idx) > maxManifest {
			return classed.Errorf(errdefs.ErrFailedPrecondition, "the list of what refers to %s in %s is full", subject, r.familiar)
		}
		if err := r.Put(ctx, ocispec.MediaTypeImageIndex, ReferrersTag(subject), idx); err != nil {
			return err
		}
	}
	return classed.Errorf(errdefs.ErrUnavailable, "others changed the list of what refers to %s in %s at the same time: try again", subject, r.familiar)
}
