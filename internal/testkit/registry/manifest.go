package registry

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxManifest is what a manifest that is pushed may have, in bytes.
const maxManifest = 4 << 20

func (r *Registry) serveManifest(a *answer, repo, ref string) {
	if a.req.Method == http.MethodPut {
		r.putManifest(a, repo, ref)
		return
	}
	r.mu.Lock()
	from := r.repos[repo]
	if from == nil {
		r.mu.Unlock()
		a.refuse(http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	d := digest.Digest(ref)
	if !strings.Contains(ref, ":") {
		d = from.tags[ref]
	}
	m, ok := from.manifests[d]
	if ok && a.req.Method == http.MethodDelete {
		delete(from.tags, ref)
		if ref == d.String() {
			delete(from.manifests, d)
			maps.DeleteFunc(from.tags, func(_ string, of digest.Digest) bool { return of == d })
		}
	}
	r.mu.Unlock()
	switch {
	case !ok:
		a.refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
	case a.req.Method == http.MethodDelete:
		a.send(http.StatusAccepted, nil)
	case a.reads():
		a.content(m.mediaType, d, m.body)
	}
}

// document is what the registry reads of a manifest or an index.
type document struct {
	MediaType    string              `json:"mediaType"`
	ArtifactType string              `json:"artifactType"`
	Config       *ocispec.Descriptor `json:"config"`
	Subject      *ocispec.Descriptor `json:"subject"`
	Annotations  map[string]string   `json:"annotations"`
}

func (r *Registry) putManifest(a *answer, repo, ref string) {
	if a.req.ContentLength > maxManifest { // before anything is read: the client waits for "100 Continue"
		a.refuse(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the manifest is too large")
		return
	}
	body, err := io.ReadAll(io.LimitReader(a.req.Body, maxManifest+1))
	if err != nil {
		return
	}
	d := digest.FromBytes(body)
	mediaType, _, _ := strings.Cut(a.req.Header.Get("Content-Type"), ";")
	var doc document
	switch {
	case len(body) > maxManifest:
		a.refuse(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the manifest is too large")
		return
	case !name.MatchString(repo):
		a.refuse(http.StatusBadRequest, "NAME_INVALID", "invalid repository name")
		return
	case strings.Contains(ref, ":") && ref != d.String():
		a.refuse(http.StatusBadRequest, "DIGEST_INVALID", "the digest is not that of the manifest")
		return
	case ref != d.String() && !tag.MatchString(ref):
		a.refuse(http.StatusBadRequest, "MANIFEST_INVALID", "invalid tag")
		return
	case json.Unmarshal(body, &doc) != nil, doc.MediaType != "" && doc.MediaType != mediaType:
		a.refuse(http.StatusBadRequest, "MANIFEST_INVALID", "the manifest is none, or of another type than the request")
		return
	}
	r.mu.Lock()
	to := r.repo(repo)
	to.manifests[d] = manifest{mediaType, body}
	if ref != d.String() {
		to.tags[ref] = d
	}
	r.mu.Unlock()
	if doc.Subject != nil {
		a.Header().Set("OCI-Subject", doc.Subject.Digest.String())
	}
	a.Header().Set("Docker-Content-Digest", d.String())
	a.Header().Set("Location", "/v2/"+repo+"/manifests/"+d.String())
	a.send(http.StatusCreated, nil)
}

// serveReferrers lists the manifests of a repository that have a subject.
func (r *Registry) serveReferrers(a *answer, repo string, subject digest.Digest) {
	if subject.Validate() != nil {
		a.refuse(http.StatusBadRequest, "DIGEST_INVALID", "what is no digest is no subject")
		return
	}
	out := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	only := a.req.URL.Query().Get("artifactType")
	r.mu.Lock()
	if from := r.repos[repo]; from != nil {
		for d, m := range from.manifests {
			var doc document
			if json.Unmarshal(m.body, &doc) != nil || doc.Subject == nil || doc.Subject.Digest != subject {
				continue
			}
			if doc.ArtifactType == "" && doc.Config != nil {
				doc.ArtifactType = doc.Config.MediaType
			}
			if only == "" || only == doc.ArtifactType {
				out.Manifests = append(out.Manifests, ocispec.Descriptor{MediaType: m.mediaType, Digest: d, Size: int64(len(m.body)), ArtifactType: doc.ArtifactType, Annotations: doc.Annotations})
			}
		}
	}
	r.mu.Unlock()
	if only != "" {
		a.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	a.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	a.send(http.StatusOK, encode(out))
}
