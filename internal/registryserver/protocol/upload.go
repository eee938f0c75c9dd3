package protocol

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/registryserver/access"
	"github.com/gantry-engine/gantry/internal/registryserver/hooks"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// beginUpload answers POST: a mount where one was asked for and can be had, a whole blob in one request, or a session.
func (x *exchange) beginUpload() error {
	q := x.r.URL.Query()
	if m := q.Get("mount"); m != "" {
		done, err := x.mount(m, q.Get("from"))
		if done || err != nil {
			return err
		}
	}
	alg := digest.SHA256
	if a := q.Get("digest-algorithm"); a != "" {
		if alg = digest.Algorithm(a); alg != digest.SHA256 && alg != digest.SHA512 {
			return refusal.DigestInvalid.New("the digest algorithm %q is not supported; sha256 and sha512 are", clip(a))
		}
	}
	if s := q.Get("digest"); s != "" {
		d, err := naming.Digest(s)
		if err != nil {
			return err
		}
		u, err := x.Uploads.Begin(x.repo, d.Algorithm())
		if err != nil {
			return err
		}
		return x.hold(u, func(held context.Context) error {
			if _, err := u.Append(x.body(held)); err != nil {
				_ = u.Cancel() // nobody knows its name
				return err
			}
			return x.commit(u, d)
		})
	}
	u, err := x.Uploads.Begin(x.repo, alg)
	if err != nil {
		return err
	}
	x.standing(u)
	x.w.WriteHeader(http.StatusAccepted)
	return nil
}

// mount links a blob that another repository has, and tells whether that worked.
func (x *exchange) mount(mount, from string) (bool, error) {
	d, err := naming.Digest(mount)
	if err != nil {
		return false, err
	}
	if from != "" {
		if err := naming.Repository(from); err != nil {
			return false, nil //nolint:nilerr // an upload begins instead
		}
	}
	b, err := x.Uploads.Mount(x.repo, from, d, func(repo string) bool { return x.id.May(repo, access.Pull) })
	if refusal.BlobUnknown.Is(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	x.created(d)
	x.notify(hooks.Mount, hooks.Target{MediaType: "application/octet-stream", Digest: d.String(), Size: b.Size, FromRepository: from})
	return true, nil
}

// created answers that a blob is here.
func (x *exchange) created(d digest.Digest) {
	h := x.w.Header()
	h.Set("Location", "/v2/"+x.repo+"/blobs/"+d.String())
	h.Set("Docker-Content-Digest", d.String())
	x.w.WriteHeader(http.StatusCreated)
}

// standing says where an upload stands.
func (x *exchange) standing(u *storage.Upload) {
	h := x.w.Header()
	h.Set("Location", "/v2/"+x.repo+"/blobs/uploads/"+u.ID())
	h.Set("Docker-Upload-UUID", u.ID())
	h.Set("Range", fmt.Sprintf("0-%d", max(u.Size()-1, 0)))
}

// hold runs something with an upload that is the request's alone.
func (x *exchange) hold(u *storage.Upload, fn func(held context.Context) error) error {
	held, release, err := u.Hold(x.r.Context())
	if err != nil {
		return err
	}
	defer release()
	c := http.NewResponseController(x.w)
	cut := context.AfterFunc(held, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer cut() // before release: its end of held is nobody's loss
	err = fn(held)
	if err != nil && held.Err() != nil {
		return context.Cause(held)
	}
	return err
}

// body is the request's content. Reading it ends with held, or when nothing came for a while.
func (x *exchange) body(held context.Context) io.Reader {
	return &patient{r: x.r.Body, held: held, idle: x.Idle, c: http.NewResponseController(x.w)}
}

// patient gives each read its own deadline.
type patient struct {
	r    io.Reader
	held context.Context
	idle time.Duration
	c    *http.ResponseController
}

func (p *patient) Read(b []byte) (int, error) {
	if p.idle > 0 {
		_ = p.c.SetReadDeadline(time.Now().Add(p.idle))
	}
	if err := p.held.Err(); err != nil { // after the deadline: the end of held sets one in the past
		return 0, context.Cause(p.held)
	}
	return p.r.Read(b)
}

// patchUpload answers PATCH: more bytes.
func (x *exchange) patchUpload() error {
	u, err := x.Uploads.Resume(x.repo, x.reference)
	if err != nil {
		return err
	}
	return x.hold(u, func(held context.Context) error {
		if err := x.append(held, u); err != nil {
			return err
		}
		x.standing(u)
		x.w.WriteHeader(http.StatusAccepted)
		return nil
	})
}

// append adds the request's body, at the place that it says.
func (x *exchange) append(held context.Context, u *storage.Upload) error {
	want := int64(-1)
	if s := x.r.Header.Get("Content-Range"); s != "" {
		from, to, ok := parseRange(s)
		if !ok {
			return refusal.BlobUploadInvalid.New("the Content-Range %q cannot be read: FIRST-LAST is needed, in bytes", clip(s))
		}
		if at := u.Size(); from != at {
			x.standing(u)
			return refusal.RangeInvalid.New("the chunk begins at byte %d; the upload stands at %d", from, at)
		}
		want = to - from + 1
		if n := x.r.ContentLength; n >= 0 && n != want {
			return refusal.SizeInvalid.New("the Content-Range %s means %d bytes, the Content-Length is %d", s, want, n)
		}
	}
	n, err := u.Append(x.body(held))
	if err == nil && want >= 0 && n != want {
		return refusal.SizeInvalid.New("the Content-Range means %d bytes, %d came", want, n)
	}
	return err
}

// parseRange reads FIRST-LAST, with or without a unit and a total as RFC 9110 has them.
func parseRange(s string) (from, to int64, ok bool) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "bytes ")
	s = strings.TrimPrefix(s, "bytes=")
	s, _, _ = strings.Cut(s, "/")
	a, b, found := strings.Cut(s, "-")
	from, err1 := strconv.ParseInt(a, 10, 64)
	to, err2 := strconv.ParseInt(b, 10, 64)
	return from, to, found && err1 == nil && err2 == nil && from >= 0 && to >= from && to < 1<<62
}

// putUpload answers PUT: the last bytes, if any, and the digest of all.
func (x *exchange) putUpload() error {
	d, err := naming.Digest(x.r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	u, err := x.Uploads.Resume(x.repo, x.reference)
	if err != nil {
		return err
	}
	return x.hold(u, func(held context.Context) error {
		if x.r.ContentLength != 0 {
			if err := x.append(held, u); err != nil {
				return err
			}
		}
		return x.commit(u, d)
	})
}

func (x *exchange) commit(u *storage.Upload, d digest.Digest) error {
	size, err := u.Commit(d)
	if err != nil {
		return err
	}
	x.created(d)
	x.notify(hooks.Push, hooks.Target{MediaType: "application/octet-stream", Digest: d.String(), Size: size})
	return nil
}

// uploadStatus answers GET: how far an upload is.
func (x *exchange) uploadStatus() error {
	u, err := x.Uploads.Resume(x.repo, x.reference)
	if err != nil {
		return err
	}
	x.standing(u)
	x.w.WriteHeader(http.StatusNoContent)
	return nil
}

// cancelUpload answers DELETE.
func (x *exchange) cancelUpload() error {
	u, err := x.Uploads.Resume(x.repo, x.reference)
	if err != nil {
		return err
	}
	return x.hold(u, func(context.Context) error {
		if err := u.Cancel(); err != nil {
			return err
		}
		x.w.WriteHeader(http.StatusNoContent)
		return nil
	})
}
