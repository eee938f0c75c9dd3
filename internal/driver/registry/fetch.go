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

	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/images"
)

// stall is how long a transfer may stand still before it is broken off and taken up again.
const stall = 60 * time.Second

// Fetch reads a manifest or a blob from offset on. The reader takes a transfer that breaks up where it
// broke, with the same host or the next one; an error that it gives is final. It never gives more than d.Size bytes in all.
func (r *Repository) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	f := &download{r: r, ctx: r.pulling(ctx), d: d, at: offset}
	if cimages.IsIndexType(d.MediaType) || cimages.IsManifestType(d.MediaType) {
		f.path = "/" + r.name + "/manifests/" + d.Digest.String()
		f.accept = d.MediaType
	} else {
		f.path = "/" + r.name + "/blobs/" + d.Digest.String()
	}
	for _, h := range r.with(docker.HostCapabilityPull) {
		f.sources = append(f.sources, source{host: h})
	}
	for _, s := range d.URLs {
		if !images.Foreign(d.MediaType) {
			break // where else a blob is to be had is believed of foreign layers only
		}
		if u, err := url.Parse(s); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
			foreign := &docker.RegistryHost{Client: foreignClient, Scheme: u.Scheme, Host: u.Host}
			f.sources = append(f.sources, source{host: foreign, location: u})
		}
	}
	if offset > 0 && offset >= d.Size {
		return f, nil // all is there, and a range of nothing would be refused
	}
	if err := f.open(); err != nil {
		return nil, r.fetchError(d, err)
	}
	return f, nil
}

// foreignClient reads layers from where their makers keep them, without anybody's credentials.
var foreignClient = &http.Client{CheckRedirect: limitRedirects}

// source is one place that may have a blob.
type source struct {
	host     *docker.RegistryHost
	location *url.URL
}

// download is a transfer under way.
type download struct {
	r       *Repository
	ctx     context.Context
	d       ocispec.Descriptor
	path    string
	accept  string
	sources []source // the first one is in use; what failed is gone from the front

	body   io.ReadCloser
	stop   context.CancelFunc
	watch  *time.Timer
	at     int64 // where the next byte that is given lies
	skip   int64 // bytes that come before it, from a host that begins at the beginning
	broken int   // times in a row without progress
	final  error // what every further Read gives
	closed sync.Once
}

// open asks the sources in turn for what is missing.
func (f *download) open() error {
	var first error
	for len(f.sources) > 0 {
		err := f.ask(f.sources[0])
		if err == nil {
			return nil
		}
		if f.ctx.Err() != nil {
			return err
		}
		if first == nil || f.sources[0].host == f.r.registry() {
			first = err
		}
		f.r.log.Debug("fetching a blob", "host", f.sources[0].host.Host, "digest", f.d.Digest, "error", err)
		if len(f.sources) == 1 {
			break
		}
		f.sources = f.sources[1:]
	}
	return first
}

func (f *download) ask(s source) error {
	q := request{method: http.MethodGet, path: f.path, location: s.location, header: http.Header{}}
	if f.accept != "" {
		q.header.Set("Accept", f.accept)
	}
	if f.at > 0 {
		q.header.Set("Range", fmt.Sprintf("bytes=%d-", f.at))
	}
	ctx, cancel := context.WithCancel(f.ctx)
	resp, err := f.r.do(ctx, s.host, q)
	if err != nil {
		cancel()
		return err
	}
	err = f.accepts(resp)
	if err != nil {
		_ = resp.Body.Close()
		cancel()
		return err
	}
	f.body, f.stop = resp.Body, cancel
	f.skip = 0
	if resp.StatusCode == http.StatusOK {
		f.skip = f.at
	}
	f.watch = time.AfterFunc(stall, cancel)
	return nil
}

// accepts looks at the head of an answer.
func (f *download) accepts(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != f.d.Size {
			return f.wrongSize(resp.ContentLength)
		}
		if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
			return classed.Invalid("the registry %s sent %s in the encoding %q, which was not asked for", resp.Request.URL.Host, f.d.Digest, clean(e))
		}
		return nil
	case http.StatusPartialContent:
		got := resp.Header.Get("Content-Range")
		if want := fmt.Sprintf("bytes %d-", f.at); !strings.HasPrefix(got, want) {
			return classed.Invalid("the registry %s was asked for %s… of %s and sent %q", resp.Request.URL.Host, want, f.d.Digest, clean(got))
		}
		if _, total, _ := strings.Cut(got, "/"); total != "*" && total != strconv.FormatInt(f.d.Size, 10) {
			return classed.Invalid("the registry %s sent %q of %s, whose size is %d", resp.Request.URL.Host, clean(got), f.d.Digest, f.d.Size)
		}
		return nil
	}
	return refused(resp)
}

func (f *download) wrongSize(n int64) error {
	return classed.Invalid("the registry sends %d bytes for %s, whose size is %d", n, f.d.Digest, f.d.Size)
}

func (f *download) Read(p []byte) (int, error) {
	if f.final != nil || len(p) == 0 {
		return 0, f.final
	}
	n, err := f.read(p)
	f.final = err
	return n, err
}

func (f *download) read(p []byte) (int, error) {
	for f.at < f.d.Size {
		part := p[:min(int64(len(p)), f.d.Size-f.at)]
		if f.skip > 0 {
			part = p[:min(int64(len(p)), f.skip)]
		}
		f.watch.Reset(stall)
		n, err := f.body.Read(part)
		switch {
		case n > 0 && f.skip > 0:
			f.skip -= int64(n)
		case n > 0:
			f.at += int64(n)
			f.broken = 0
			return n, nil
		case err != nil:
			if err := f.again(err); err != nil {
				return 0, err
			}
		}
	}
	return 0, f.end()
}

// end looks whether the registry has more to say than it should.
func (f *download) end() error {
	if f.body == nil {
		return io.EOF
	}
	var one [1]byte
	f.watch.Reset(stall)
	n, _ := f.body.Read(one[:])
	if n > 0 {
		return classed.Invalid("the registry sends more than the %d bytes that %s has", f.d.Size, f.d.Digest)
	}
	return io.EOF
}

// again takes the transfer up where it broke.
func (f *download) again(broke error) error {
	f.drop()
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	f.broken++
	if f.broken >= f.r.attempts && len(f.sources) > 1 {
		f.sources, f.broken = f.sources[1:], 1 // a mirror that cannot do it; the next host has its own attempts
	}
	if f.broken >= f.r.attempts {
		if errors.Is(broke, io.EOF) || errors.Is(broke, io.ErrUnexpectedEOF) {
			broke = errors.New("the connection was closed")
		}
		return classed.Errorf(errdefs.ErrUnavailable, "the registry broke off sending %s %d times without a byte more, last after %d of %d bytes: %v", f.d.Digest, f.broken, f.at, f.d.Size, broke)
	}
	f.r.log.Debug("a transfer broke off and is taken up again", "digest", f.d.Digest, "at", f.at, "of", f.d.Size, "error", broke)
	if err := f.r.sleep(f.ctx, firstWait<<(f.broken-1)); err != nil {
		return err
	}
	if err := f.open(); err != nil {
		return f.r.fetchError(f.d, err)
	}
	return nil
}

var errClosed = errors.New("the transfer is closed")

func (f *download) drop() {
	if f.body == nil {
		return
	}
	f.watch.Stop()
	_ = f.body.Close()
	f.stop()
	f.body = nil
}

// Close ends the transfer.
func (f *download) Close() error {
	f.closed.Do(func() {
		f.drop()
		f.final = errClosed
	})
	return nil
}
