package images

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/spec"
)

// stream writes a body piece by piece. Its header goes out with the first byte, so that
// until then an error still has a status code.
type stream struct {
	w           http.ResponseWriter
	contentType string
	started     bool
	flush       bool
}

func (s *stream) Write(p []byte) (int, error) {
	if !s.started {
		s.started = true
		s.w.Header().Set("Content-Type", s.contentType)
		s.w.WriteHeader(http.StatusOK)
	}
	n, err := s.w.Write(p)
	if s.flush {
		_ = http.NewResponseController(s.w).Flush()
	}
	return n, err
}

// fail tells an error: by status while possible, else within the stream of JSON objects.
func (s *stream) fail(err error) error {
	if err == nil || !s.started {
		return err
	}
	b, merr := json.Marshal(map[string]any{"errorDetail": map[string]string{"message": err.Error()}, "error": err.Error()})
	if merr != nil {
		return merr
	}
	_, werr := s.Write(append(b, '\r', '\n'))
	return werr
}

// queryOnly keeps form decoding away from a body that is an archive, whatever its content type says.
func queryOnly(req *http.Request) {
	req.Form, req.PostForm = req.URL.Query(), url.Values{}
}

func (r *Router) load(ctx context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	queryOnly(req)
	list, err := manyPlatforms(req, "platform")
	if err != nil {
		return err
	}
	out := &stream{w: w, contentType: "application/json", flush: true}
	return out.fail(r.s.Load(ctx, req.Body, list, images.NewProgress(out, quiet(ctx, req))))
}

// quiet is the default of clients that do not say.
func quiet(ctx context.Context, req *http.Request) bool {
	if req.FormValue("quiet") == "" {
		return !httpapi.VersionLess(httpapi.Version(ctx), "1.23")
	}
	return httpapi.Bool(req, "quiet")
}

func (r *Router) save(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	list, err := manyPlatforms(req, "platform")
	if err != nil {
		return err
	}
	refs := req.Form["names"]
	if name := vars["name"]; name != "" {
		refs = []string{name}
	}
	write, err := r.s.Save(ctx, refs, list)
	if err != nil {
		return err
	}
	out := &stream{w: w, contentType: "application/x-tar"}
	if err := write(out); err != nil {
		if !out.started {
			return err
		}
		// The archive is cut short and the connection with it: a client must not take it for whole.
		panic(http.ErrAbortHandler)
	}
	return nil
}

func (r *Router) create(ctx context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	queryOnly(req)
	f := req.Form
	if f.Get("fromImage") != "" {
		return r.pull(ctx, w, req)
	}
	o := images.ImportOptions{Source: f.Get("fromSrc"), Repo: f.Get("repo"), Tag: f.Get("tag"), Message: f.Get("message"), Changes: f["changes"]}
	if o.Source == "" {
		return fmt.Errorf("one of fromImage and fromSrc is needed: %w", errdefs.ErrInvalidArgument)
	}
	if p := f.Get("platform"); p != "" {
		parsed, err := platforms.Parse(p)
		if err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		o.Platform = &parsed
	}
	out := &stream{w: w, contentType: "application/json", flush: true}
	return out.fail(r.s.Import(ctx, req.Body, o, images.NewProgress(out, false)))
}

func (r *Router) pull(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	o := images.PullOptions{Image: req.Form.Get("fromImage"), Tag: req.Form.Get("tag"), Auth: httpapi.RegistryAuth(req)}
	o.Lazy = httpapi.Bool(req, "lazy") // no parameter of Docker's: gantry pull --lazy
	if p := req.Form.Get("platform"); p != "" {
		parsed, err := platforms.Parse(p)
		if err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		o.Platform = &parsed
	}
	out := &stream{w: w, contentType: "application/json", flush: true}
	return out.fail(r.s.Pull(ctx, o, images.NewProgress(out, false)))
}

func (r *Router) push(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	queryOnly(req)
	o := images.PushOptions{Image: vars["name"], Tag: req.Form.Get("tag"), Auth: httpapi.RegistryAuth(req)}
	if !httpapi.VersionLess(httpapi.Version(ctx), "1.46") {
		var err error
		if o.Platform, err = onePlatform(req); err != nil {
			return err
		}
	}
	out := &stream{w: w, contentType: "application/json", flush: true}
	return out.fail(r.s.Push(ctx, o, images.NewProgress(out, false)))
}

func (r *Router) commit(ctx context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	queryOnly(req)
	f := req.Form
	o := images.CommitOptions{
		Container: f.Get("container"), Repo: f.Get("repo"), Tag: f.Get("tag"), Comment: f.Get("comment"), Author: f.Get("author"),
		Changes: f["changes"], Pause: httpapi.Bool(req, "pause") || f.Get("pause") == "",
	}
	if o.Container == "" {
		return fmt.Errorf("the query parameter container is missing: %w", errdefs.ErrInvalidArgument)
	}
	var body spec.ImageConfig
	if err := httpapi.ReadJSON(req, &body, true); err != nil {
		return err
	}
	o.Config = &body
	id, err := r.s.Commit(ctx, o)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusCreated, map[string]string{"Id": id.String()})
}
