package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// maxManifest bounds a manifest or index, in bytes: registries need take no more.
const maxManifest = 4 << 20

// manifestTypes are what we understand, the newest first.
var manifestTypes = []string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, cimages.MediaTypeDockerSchema2ManifestList, cimages.MediaTypeDockerSchema2Manifest,
}

const schema1 = "application/vnd.docker.distribution.manifest.v1+"

// Resolve finds what a tag or a digest names. A mirror that does not know it, or cannot answer, is passed over.
func (r *Repository) Resolve(ctx context.Context, tag string) (ocispec.Descriptor, error) {
	ctx = r.pulling(ctx)
	var errs []error
	for _, h := range r.with(docker.HostCapabilityResolve) {
		d, err := r.resolve(ctx, h, tag)
		if err == nil {
			return d, nil
		}
		if ctx.Err() != nil {
			return d, err
		}
		errs = append(errs, err)
		r.log.Debug("resolving an image", "host", h.Host, "repository", r.name, "tag", tag, "error", err)
	}
	if len(errs) == 0 {
		return ocispec.Descriptor{}, fmt.Errorf("no host of the registry of %s may be asked for tags: %w", r.familiar, errdefs.ErrFailedPrecondition)
	}
	return ocispec.Descriptor{}, r.pullError(tag, errs[len(errs)-1]) // the registry's own word, not a mirror's
}

func (r *Repository) resolve(ctx context.Context, h *docker.RegistryHost, tag string) (d ocispec.Descriptor, err error) {
	q := request{method: http.MethodHead, path: "/" + r.name + "/manifests/" + tag, header: http.Header{"Accept": {strings.Join(append(manifestTypes, "*/*"), ", ")}}}
	resp, err := r.do(ctx, h, q)
	if err != nil {
		return d, err
	}
	if resp.StatusCode == http.StatusOK {
		drain(resp)
		if d, err = described(resp, tag); err == nil {
			return d, nil
		}
		if !errors.Is(err, errUndescribed) {
			return d, err
		}
	}
	// An answer to HEAD has no text, and some registries do not say all in its header.
	drain(resp)
	q.method = http.MethodGet
	q.once = busy(resp) // it was asked often enough
	if resp, err = r.do(ctx, h, q); err != nil {
		return d, err
	}
	if resp.StatusCode != http.StatusOK {
		return d, refused(resp)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return d, fmt.Errorf("reading the manifest of %s: %w", r.familiar, err)
	}
	if len(b) > maxManifest {
		return d, tooLarge(r.familiar)
	}
	d = ocispec.Descriptor{MediaType: mediaType(resp.Header), Digest: digest.FromBytes(b), Size: int64(len(b))}
	if want := digest.Digest(tag); strings.Contains(tag, ":") && want.Validate() == nil && want != d.Digest {
		return d, classed.Invalid("the registry %s answered with a manifest whose digest is %s, not %s", h.Host, d.Digest, want)
	}
	return d, known(d.MediaType)
}

var errUndescribed = errors.New("the answer does not say what the manifest is")

// described reads what a manifest is off the header of an answer.
func described(resp *http.Response, tag string) (d ocispec.Descriptor, err error) {
	d.MediaType = mediaType(resp.Header)
	d.Digest = digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if want := digest.Digest(tag); strings.Contains(tag, ":") && want.Validate() == nil {
		d.Digest = want // what was asked for; the content is checked anyway
	}
	d.Size, err = strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64)
	if err != nil || d.Size <= 0 || d.Digest.Validate() != nil || d.Digest.Algorithm() != digest.SHA256 || d.MediaType == "" {
		return d, errUndescribed
	}
	if d.Size > maxManifest {
		return d, tooLarge(resp.Request.URL.Host)
	}
	return d, known(d.MediaType)
}

func tooLarge(what string) error {
	return classed.Invalid("the manifest of %s has more than %d bytes", what, maxManifest)
}

func mediaType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// known refuses what is no manifest of today.
func known(mediaType string) error {
	switch {
	case cimages.IsIndexType(mediaType), cimages.IsManifestType(mediaType):
		return nil
	case strings.HasPrefix(mediaType, schema1), mediaType == "application/json":
		return classed.Errorf(errdefs.ErrNotImplemented, "the image has a manifest of schema 1, which is no longer supported: push it again with a newer client (its type is %s)", mediaType)
	}
	return classed.Invalid("the image has a manifest of the unknown type %q", clean(mediaType))
}

// maxTags bounds how many tags are listed, maxTagsPage one answer.
const (
	maxTags     = 100_000
	maxTagsPage = 8 << 20 // bytes
)

// Tags lists the repository's tags.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	ctx = r.pulling(ctx)
	h := r.registry()
	q := request{method: http.MethodGet, path: "/" + r.name + "/tags/list", query: url.Values{"n": {"1000"}}}
	var tags []string
	for {
		resp, err := r.do(ctx, h, q)
		if err != nil {
			return nil, r.pullError("", err)
		}
		if resp.StatusCode != http.StatusOK {
			return nil, r.pullError("", refused(resp))
		}
		var page struct{ Tags []string }
		err = json.NewDecoder(io.LimitReader(resp.Body, maxTagsPage)).Decode(&page)
		_ = resp.Body.Close()
		if err != nil {
			return nil, classed.Invalid("the registry %s does not list the tags of %s as JSON: %v", h.Host, r.familiar, err)
		}
		tags = append(tags, page.Tags...)
		next := nextPage(resp)
		if next == nil || len(page.Tags) == 0 || q.location != nil && *next == *q.location {
			return tags, nil
		}
		if len(tags) > maxTags {
			return nil, classed.Invalid("the repository %s has more than %d tags", r.familiar, maxTags)
		}
		q.location = next
	}
}

// nextPage is where a list goes on (RFC 5988), at the same host; nil at its end.
func nextPage(resp *http.Response) *url.URL {
	for _, l := range resp.Header.Values("Link") {
		target, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(l), "<"), ">")
		if !ok || !strings.Contains(rest, `rel="next"`) && !strings.Contains(rest, "rel=next") {
			continue
		}
		u, err := resp.Request.URL.Parse(target)
		if err == nil && u.Host == resp.Request.URL.Host {
			return u
		}
	}
	return nil
}
