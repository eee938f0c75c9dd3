package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// Has tells whether the repository has a blob.
func (r *Repository) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	resp, err := r.do(r.pushing(ctx), r.registry(), request{method: http.MethodHead, path: "/" + r.name + "/blobs/" + d.Digest.String()})
	if err != nil {
		return false, r.pushError(err)
	}
	drain(resp)
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, r.pushError(refused(resp))
}

// Upload sends a blob, unless the registry has it in one of the repositories from and mounts it from there: then it
// says which. An upload that breaks off goes on where the registry says it stands. open reads the blob from an offset on.
func (r *Repository) Upload(ctx context.Context, d ocispec.Descriptor, from []string, open func(offset int64) (io.ReadCloser, error)) (mounted string, err error) {
	ctx = r.pushing(ctx)
	u := &upload{r: r, d: d, open: open}
	for _, repo := range from {
		if ok, err := u.mount(ctx, r.below(repo)); err != nil || ok {
			return repo, r.pushError(err)
		}
		if u.session != nil {
			break // it was not mounted, and an upload began instead
		}
	}
	if u.session == nil {
		if err := u.begin(ctx, nil); err != nil {
			return "", r.pushError(err)
		}
	}
	err = u.send(ctx)
	if errors.As(err, new(sourceError)) {
		u.cancel(ctx)
	}
	return "", r.pushError(err)
}

// upload is a blob on its way out.
type upload struct {
	r       *Repository
	d       ocispec.Descriptor
	open    func(offset int64) (io.ReadCloser, error)
	session *url.URL // where the registry wants to be told more
	at      int64    // bytes that it has
	broken  int      // times in a row without progress
}

// cancel tells the registry that no more will come: there is nothing to send. That it does not hear of it costs it disk space for a
// while, nothing else.
func (u *upload) cancel(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	if resp, err := u.r.do(ctx, u.r.registry(), request{method: http.MethodDelete, location: u.session, once: true}); err == nil {
		drain(resp)
	}
}

// mount asks for the blob from another repository of the registry.
func (u *upload) mount(ctx context.Context, repo string) (bool, error) {
	err := u.begin(docker.WithScope(ctx, "repository:"+repo+":pull"), url.Values{"mount": {u.d.Digest.String()}, "from": {repo}})
	var f *refusal
	switch {
	case errors.Is(err, errMounted):
		return true, nil
	case errors.As(err, &f), errors.As(err, new(unauthorized)):
		return false, nil // not there, or not for this user
	}
	return false, err
}

var errMounted = errors.New("the registry has the blob now")

// begin starts an upload session.
func (u *upload) begin(ctx context.Context, q url.Values) error {
	h := u.r.registry()
	resp, err := u.r.do(ctx, h, request{method: http.MethodPost, path: "/" + u.r.name + "/blobs/uploads/", query: q, header: http.Header{"Content-Length": {"0"}}})
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		drain(resp)
		return errMounted
	case http.StatusAccepted:
		drain(resp)
		u.at = 0
		return u.move(resp)
	}
	return refused(resp)
}

// move takes over where the session goes on.
func (u *upload) move(resp *http.Response) error {
	loc, err := resp.Location()
	if err != nil {
		return classed.Invalid("the registry %s does not say where to send %s: %v", resp.Request.URL.Host, u.d.Digest, err)
	}
	if h := u.r.registry(); loc.Host != h.Host && loc.Scheme == "http" && h.Scheme == "https" {
		return classed.Invalid("the registry %s wants %s without encryption at %s", h.Host, u.d.Digest, loc.Host)
	}
	u.session = loc
	return nil
}

// send sends the blob and says what it is.
func (u *upload) send(ctx context.Context) error {
	for {
		before := u.at
		err := u.patch(ctx)
		var f *refusal
		if err == nil {
			if err = u.commit(ctx); err == nil || !errors.As(err, &f) || f.status != http.StatusNotFound {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.As(err, &f) && f.status < 500 && f.status != http.StatusTooManyRequests && f.status != http.StatusUnauthorized && f.status != http.StatusRequestedRangeNotSatisfiable && f.status != http.StatusNotFound {
			return err
		}
		if errors.As(err, new(sourceError)) {
			return err
		}
		if err := u.recover(ctx, before, err); err != nil {
			return err
		}
	}
}

// sourceError is a failure of ours to read the blob.
type sourceError struct{ error }

func (s sourceError) Unwrap() error { return s.error }

// patch sends what the registry does not have yet.
func (u *upload) patch(ctx context.Context) error {
	if u.at >= u.d.Size && u.at > 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var reading *patience
	q := request{method: http.MethodPatch, location: u.session, length: u.d.Size - u.at, once: true, header: http.Header{
		"Content-Type": {"application/octet-stream"},
	}}
	if u.at > 0 {
		q.header.Set("Content-Range", fmt.Sprintf("%d-%d", u.at, u.d.Size-1))
	}
	q.body = func() (io.ReadCloser, error) {
		rc, err := u.open(u.at)
		if err != nil {
			return nil, sourceError{err}
		}
		if reading != nil {
			reading.watch.Stop() // the first attempt's: it was answered, with a question for authorization
		}
		reading = &patience{ReadCloser: rc, watch: time.AfterFunc(stall, cancel)}
		return reading, nil
	}
	resp, err := u.r.do(ctx, u.r.registry(), q)
	if reading != nil {
		reading.watch.Stop()
		if failed := reading.failure(); failed != nil {
			if err == nil {
				drain(resp)
			}
			return sourceError{failed}
		}
	}
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusCreated {
		return refused(resp)
	}
	drain(resp)
	u.at = u.d.Size
	if err := u.move(resp); err != nil {
		return err
	}
	return nil
}

// patience notices a registry that no longer takes anything.
type patience struct {
	io.ReadCloser
	watch *time.Timer

	mu     sync.Mutex // an answer can come while the connection still reads
	closed bool
	failed error
}

func (p *patience) Read(b []byte) (int, error) {
	p.watch.Reset(stall)
	n, err := p.ReadCloser.Read(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && err != io.EOF && !p.closed { // closed in the middle of a read is no failure of the source
		p.failed = err
	}
	return n, err
}

func (p *patience) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	return p.ReadCloser.Close()
}

func (p *patience) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// recover finds out how far a session got that broke off, or begins a new one.
func (u *upload) recover(ctx context.Context, before int64, broke error) error {
	for {
		u.broken++
		if u.broken >= u.r.attempts {
			return classed.Errorf(errdefs.ErrUnavailable, "sending %s to the registry broke off %d times without a byte more, last after %d of %d bytes: %v", u.d.Digest, u.broken, u.at, u.d.Size, broke)
		}
		pause := firstWait << (u.broken - 1)
		var asked *refusal
		if errors.As(broke, &asked) && asked.after > pause {
			if pause = asked.after; pause > maxWait {
				return broke
			}
		}
		if err := u.r.sleep(ctx, pause); err != nil {
			return err
		}
		at, err := u.status(ctx)
		if err == nil && at > 0 {
			if at > before {
				u.broken = 0
			}
			u.at = at
			u.r.log.Debug("an upload broke off and is taken up again", "digest", u.d.Digest, "at", at, "of", u.d.Size, "error", broke)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var f *refusal
		// A registry says 0-0 of no byte as well as of one; a new session has none for certain.
		if err == nil || errors.As(err, &f) && f.status < 500 {
			if err := u.begin(ctx, nil); err == nil {
				return nil
			} else if broke = err; errors.As(err, &f) && f.status < 500 && f.status != http.StatusTooManyRequests {
				return err
			}
		}
	}
}

// status asks how many bytes of the blob the registry has.
func (u *upload) status(ctx context.Context) (int64, error) {
	resp, err := u.r.do(ctx, u.r.registry(), request{method: http.MethodGet, location: u.session})
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
		return 0, refused(resp)
	}
	drain(resp)
	if resp.Header.Get("Location") != "" {
		if err := u.move(resp); err != nil {
			return 0, err
		}
	}
	// The range names the last byte; a session without bytes says 0-0 too, and so a single byte counts for none.
	_, last, ok := strings.Cut(strings.TrimPrefix(resp.Header.Get("Range"), "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n <= 0 {
		return 0, nil
	}
	return min(n+1, u.d.Size), nil
}

// commit closes the session: the registry checks the digest.
func (u *upload) commit(ctx context.Context) error {
	loc := *u.session
	q := loc.Query()
	q.Set("digest", u.d.Digest.String())
	loc.RawQuery = q.Encode()
	resp, err := u.r.do(ctx, u.r.registry(), request{method: http.MethodPut, location: &loc, header: http.Header{"Content-Length": {"0"}}})
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusCreated || resp.StatusCode == http.StatusNoContent {
		drain(resp)
		return nil
	}
	f := refused(resp)
	if ok, herr := u.r.Has(ctx, u.d); herr == nil && ok {
		return nil // an answer was lost, and the same asked again
	}
	return f
}

// Put stores a manifest under a tag, or under its digest if the tag is empty.
func (r *Repository) Put(ctx context.Context, mediaType, tag string, body []byte) error {
	d := digest.FromBytes(body)
	if tag == "" {
		tag = d.String()
	}
	resp, err := r.do(r.pushing(ctx), r.registry(), request{
		method: http.MethodPut, path: "/" + r.name + "/manifests/" + tag, header: http.Header{"Content-Type": {mediaType}},
		body: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(body))), nil }, length: int64(len(body)),
	})
	if err != nil {
		return r.pushError(err)
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
		return r.pushError(refused(resp))
	}
	drain(resp)
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != d.String() {
		return classed.Errorf(errdefs.ErrDataLoss, "the registry stored the manifest %s as %s", d, clean(got))
	}
	return nil
}
