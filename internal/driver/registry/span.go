package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// Span reads the bytes [from, to) of a blob and no others: one request, of the first host that can. What breaks off is
// the caller's to ask for again. A registry that sends all of a blob where a part was asked for is not listened to; if no
// host does better, the error is errdefs.ErrNotImplemented. The reader has to be closed.
func (r *Repository) Span(ctx context.Context, d ocispec.Descriptor, from, to int64) (io.ReadCloser, error) {
	if from < 0 || from >= to || to > d.Size {
		return nil, classed.Invalid("the bytes %d to %d of %s, which has %d: there is no such part", from, to, d.Digest, d.Size)
	}
	ctx = r.pulling(ctx)
	var last error
	for _, h := range r.with(docker.HostCapabilityPull) {
		body, err := r.span(ctx, h, d, from, to)
		if err == nil {
			return body, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		last = err
		r.log.Debug("fetching a part of a blob", "host", h.Host, "digest", d.Digest, "from", from, "to", to, "error", err)
	}
	if last == nil {
		last = errors.New("no host of the registry may be asked for it")
	}
	return nil, r.fetchError(d, last)
}

func (r *Repository) span(ctx context.Context, h *docker.RegistryHost, d ocispec.Descriptor, from, to int64) (io.ReadCloser, error) {
	q := request{
		method: http.MethodGet, path: "/" + r.name + "/blobs/" + d.Digest.String(),
		header: http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", from, to-1)}},
	}
	ctx, cancel := context.WithCancel(ctx)
	resp, err := r.do(ctx, h, q)
	if err != nil {
		cancel()
		return nil, err
	}
	if err := spanned(resp, d, from, to); err != nil {
		_ = resp.Body.Close()
		cancel()
		return nil, err
	}
	return &part{body: resp.Body, rest: to - from, stop: cancel, watch: time.AfterFunc(stall, cancel)}, nil
}

// spanned looks whether an answer is the part that was asked for.
func spanned(resp *http.Response, d ocispec.Descriptor, from, to int64) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-%d/", from, to-1)
		total, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), want)
		if !ok || total != "*" && total != fmt.Sprint(d.Size) {
			return classed.Invalid("the registry %s was asked for %s%d of %s and sent %q", resp.Request.URL.Host, want, d.Size, d.Digest, clean(resp.Header.Get("Content-Range")))
		}
		return nil
	case http.StatusOK:
		if from == 0 && to == d.Size && resp.ContentLength == d.Size {
			return nil
		}
		return classed.Errorf(errdefs.ErrNotImplemented, "the registry %s gives no parts of blobs: it does not follow Range", resp.Request.URL.Host)
	}
	return refused(resp)
}

// part is the body of an answer, as long as was asked for.
type part struct {
	body  io.ReadCloser
	rest  int64
	stop  context.CancelFunc
	watch *time.Timer
}

func (p *part) Read(b []byte) (int, error) {
	if p.rest == 0 {
		return 0, io.EOF
	}
	p.watch.Reset(stall)
	n, err := p.body.Read(b[:min(int64(len(b)), p.rest)])
	p.rest -= int64(n)
	if errors.Is(err, io.EOF) && p.rest > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close gives the connection back if all was read.
func (p *part) Close() error {
	p.watch.Stop()
	if p.rest == 0 {
		var one [1]byte
		_, _ = p.body.Read(one[:]) // the end, so that the connection can be used again
	}
	err := p.body.Close()
	p.stop()
	return err
}
