// Package images is the door to images: all endpoints tagged Image, and commit.
// It decodes requests, calls the service, and encodes answers as the client's API version wants them.
package images

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/images"
)

// Service is what this door needs of the images' use cases.
type Service interface {
	Reader
	Writer
	Mover
	Signer
}

// Reader looks at images.
type Reader interface {
	List(ctx context.Context, o images.ListOptions) ([]image.Summary, error)
	Inspect(ctx context.Context, ref string, platform *ocispec.Platform, manifests bool) (*image.InspectResponse, error)
	History(ctx context.Context, ref string, platform *ocispec.Platform) ([]image.HistoryResponseItem, error)
	Save(ctx context.Context, refs []string, platforms []ocispec.Platform) (func(w io.Writer) error, error)
	Attestations(ctx context.Context, ref string, platform *ocispec.Platform) error
}

// Writer changes images.
type Writer interface {
	Tag(ctx context.Context, ref, repo, tag string) error
	Delete(ctx context.Context, ref string, o images.DeleteOptions) ([]image.DeleteResponse, error)
	Prune(ctx context.Context, a filters.Args) (image.PruneReport, error)
	Load(ctx context.Context, r io.Reader, platforms []ocispec.Platform, out images.Progress) error
	Import(ctx context.Context, body io.Reader, o images.ImportOptions, out images.Progress) error
	Commit(ctx context.Context, o images.CommitOptions) (digest.Digest, error)
}

// Mover brings images from registries and to them.
type Mover interface {
	Pull(ctx context.Context, o images.PullOptions, out images.Progress) error
	Push(ctx context.Context, o images.PushOptions, out images.Progress) error
}

// Signer knows images' signatures.
type Signer interface {
	Signatures(ctx context.Context, o images.SignatureOptions) (images.Signatures, error)
	Attach(ctx context.Context, o images.AttachOptions) (digest.Digest, error)
}

// Router holds the endpoints.
type Router struct{ s Service }

// New makes the endpoints of s.
func New(s Service) *Router { return &Router{s} }

// Routes implements httpapi.Router.
func (r *Router) Routes() []httpapi.Route {
	return []httpapi.Route{
		{Method: http.MethodGet, Path: "/images/json", Handler: r.list},
		{Method: http.MethodGet, Path: "/images/get", Handler: r.save},
		{Method: http.MethodGet, Path: "/images/{name*}/get", Handler: r.save},
		{Method: http.MethodGet, Path: "/images/{name*}/history", Handler: r.history},
		{Method: http.MethodGet, Path: "/images/{name*}/json", Handler: r.inspect},
		{Method: http.MethodGet, Path: "/images/{name*}/attestations", Handler: r.attestations, Since: "1.55"},
		{Method: http.MethodGet, Path: "/images/{name*}/signatures", Handler: r.signatures},
		{Method: http.MethodPost, Path: "/images/{name*}/signatures", Handler: r.attach},
		{Method: http.MethodPost, Path: "/images/load", Handler: r.load},
		{Method: http.MethodPost, Path: "/images/create", Handler: r.create},
		{Method: http.MethodPost, Path: "/images/{name*}/push", Handler: r.push},
		{Method: http.MethodPost, Path: "/images/{name*}/tag", Handler: r.tag},
		{Method: http.MethodPost, Path: "/images/prune", Handler: r.prune, Since: "1.25"},
		{Method: http.MethodDelete, Path: "/images/{name*}", Handler: r.remove},
		{Method: http.MethodPost, Path: "/commit", Handler: r.commit},
		{Method: http.MethodPost, Path: "/build", Handler: notYet("build")},
		{Method: http.MethodPost, Path: "/build/prune", Handler: r.buildPrune, Since: "1.31"},
	}
}

func notYet(what string) httpapi.Handler {
	return func(context.Context, http.ResponseWriter, *http.Request, httpapi.Vars) error {
		return fmt.Errorf("%s is not implemented yet: %w", what, errdefs.ErrNotImplemented)
	}
}

// onePlatform reads a platform in JSON, as clients from 1.48 on send it; absent is nil.
func onePlatform(r *http.Request) (*ocispec.Platform, error) {
	list, err := manyPlatforms(r, "platform")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if len(list) > 1 {
		return nil, fmt.Errorf("only one platform can be given: %w", errdefs.ErrInvalidArgument)
	}
	return &list[0], nil
}

func manyPlatforms(r *http.Request, key string) (list []ocispec.Platform, err error) {
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	for _, v := range r.Form[key] {
		if v == "" {
			continue
		}
		var p ocispec.Platform
		if err := json.Unmarshal([]byte(v), &p); err != nil || p.OS == "" && p.Architecture == "" {
			return nil, fmt.Errorf("failed to parse platform %q: a JSON object with os and architecture is needed: %w", v, errdefs.ErrInvalidArgument)
		}
		list = append(list, platforms.Normalize(p))
	}
	return list, nil
}

func (r *Router) list(ctx context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	a, err := filters.Parse(req.FormValue("filters"))
	if err != nil {
		return err
	}
	v := httpapi.Version(ctx)
	if name := req.FormValue("filter"); name != "" && httpapi.VersionLess(v, "1.41") { // before filters
		if a == nil {
			a = filters.Args{}
		}
		a["reference"] = append(a["reference"], name)
	}
	list, err := r.s.List(ctx, images.ListOptions{
		Filters: a, SharedSize: httpapi.Bool(req, "shared-size") && !httpapi.VersionLess(v, "1.42"),
		Manifests: httpapi.Bool(req, "manifests") && !httpapi.VersionLess(v, "1.47"), Containers: !httpapi.VersionLess(v, "1.51"),
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, listFor(v, list))
}

func (r *Router) inspect(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	v := httpapi.Version(ctx)
	var platform *ocispec.Platform
	manifests := false
	if !httpapi.VersionLess(v, "1.48") {
		manifests = httpapi.Bool(req, "manifests")
	}
	if !httpapi.VersionLess(v, "1.49") {
		var err error
		if platform, err = onePlatform(req); err != nil {
			return err
		}
	}
	i, err := r.s.Inspect(ctx, vars["name"], platform, manifests)
	if err != nil {
		return err
	}
	out, err := inspectFor(v, i)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, out)
}

func (r *Router) history(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	platform, err := onePlatform(req)
	if err != nil {
		return err
	}
	h, err := r.s.History(ctx, vars["name"], platform)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, h)
}

func (r *Router) attestations(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	platform, err := onePlatform(req)
	if err != nil {
		return err
	}
	if err := r.s.Attestations(ctx, vars["name"], platform); err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, []image.AttestationStatement{})
}

func (r *Router) tag(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	if err := r.s.Tag(ctx, vars["name"], req.FormValue("repo"), req.FormValue("tag")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (r *Router) remove(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	list, err := manyPlatforms(req, "platforms")
	if err != nil {
		return err
	}
	out, err := r.s.Delete(ctx, vars["name"], images.DeleteOptions{Force: httpapi.Bool(req, "force"), Platforms: list})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, out)
}

func (r *Router) prune(ctx context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	a, err := filters.Parse(req.FormValue("filters"))
	if err != nil {
		return err
	}
	report, err := r.s.Prune(ctx, a)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, report)
}

// buildPrune is truthful: nothing builds yet, so there is no build cache.
func (r *Router) buildPrune(_ context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	if _, err := filters.Parse(req.FormValue("filters")); err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, struct {
		CachesDeleted  []string
		SpaceReclaimed uint64
	}{})
}
