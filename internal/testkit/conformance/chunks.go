package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"

	"github.com/opencontainers/go-digest"
)

// chunked is an upload in chunks.
type chunked struct {
	p    *probe
	at   string // location of the next request
	size int    // of a chunk: what the registry wants at least
}

func (p *probe) chunked() *chunked {
	a := p.send(http.MethodPost, p.uploads(), nil).want(http.StatusAccepted)
	c := &chunked{p: p, at: a.location(), size: 1000}
	if n, err := strconv.Atoi(a.header.Get("OCI-Chunk-Min-Length")); err == nil && n <= 8<<20 {
		c.size = max(c.size, n)
	}
	return c
}

// patch sends bytes as those from an offset on.
func (c *chunked) patch(from int, b []byte) *answer {
	return c.p.send(http.MethodPatch, c.at, b, "Content-Type", octets, "Content-Range", fmt.Sprintf("%d-%d", from, from+len(b)-1))
}

// next sends a chunk that has to be taken.
func (c *chunked) next(from int, b []byte) *answer {
	a := c.patch(from, b).want(http.StatusAccepted)
	c.at = a.location()
	return a
}

func (c *chunked) end(d digest.Digest) *answer { return c.p.put(c.at, d, nil) }

var rangeForm = regexp.MustCompile(`^0-[0-9]+$`)

// upTo wants an answer to say which bytes have arrived.
func (a *answer) upTo(n int) {
	if got := a.header.Get("Range"); got != fmt.Sprintf("0-%d", n-1) {
		a.p.fail("%s: Range is %q, not %q", a.what, got, fmt.Sprintf("0-%d", n-1))
	}
}

func pushChunks() []Case {
	return section(Push, "Pushing a blob in chunks",
		must("push-chunks", "chunks by `PATCH` and a closing `PUT` make the blob: 202 each, then 201", func(p *probe) {
			c := p.chunked()
			b := p.bytes(2*c.size + 10)
			c.next(0, b[:c.size])
			c.next(c.size, b[c.size:2*c.size])
			c.next(2*c.size, b[2*c.size:])
			d := digest.FromBytes(b)
			p.get(c.end(d).want(http.StatusCreated).location()).want(http.StatusOK).same(b)
			p.get(p.blob(d)).want(http.StatusOK).same(b)
		}),
		must("push-chunks-headers", "each answer to a chunk has `Location` and `Range`, which ends at the last byte that came", func(p *probe) {
			c := p.chunked()
			b := p.bytes(2 * c.size)
			c.next(0, b[:c.size]).upTo(c.size)
			c.next(c.size, b[c.size:]).upTo(2 * c.size)
		}),
		must("push-chunks-last-in-put", "the last chunk can come with the closing `PUT`", func(p *probe) {
			c := p.chunked()
			b := p.bytes(c.size + 10)
			c.next(0, b[:c.size])
			d := digest.FromBytes(b)
			p.send(http.MethodPut, p.with(c.at, "digest", d.String()), b[c.size:], "Content-Type", octets, "Content-Range", fmt.Sprintf("%d-%d", c.size, len(b)-1)).want(http.StatusCreated)
			p.get(p.blob(d)).want(http.StatusOK).same(b)
		}),
		must("push-chunks-gap", "a chunk that leaves bytes out is answered with 416", func(p *probe) {
			c := p.chunked()
			b := p.bytes(3 * c.size)
			c.next(0, b[:c.size])
			c.patch(2*c.size, b[2*c.size:]).check(http.StatusRequestedRangeNotSatisfiable)
		}),
		must("push-chunks-twice", "so is a chunk that came before", func(p *probe) {
			c := p.chunked()
			b := p.bytes(2 * c.size)
			c.next(0, b[:c.size])
			c.next(c.size, b[c.size:])
			c.patch(0, b[:c.size]).check(http.StatusRequestedRangeNotSatisfiable)
		}),
		must("push-chunks-first", "so is a first chunk that does not begin at 0", func(p *probe) {
			c := p.chunked()
			c.patch(c.size, p.bytes(c.size)).check(http.StatusRequestedRangeNotSatisfiable)
		}),
		must("push-chunks-last-gap", "a last chunk in the `PUT` keeps the order too: it is not taken at another place", func(p *probe) {
			c := p.chunked()
			b := p.bytes(2*c.size + 10)
			c.next(0, b[:c.size])
			d := digest.FromBytes(append(bytes.Clone(b[:c.size]), b[2*c.size:]...))
			p.send(http.MethodPut, p.with(c.at, "digest", d.String()), b[2*c.size:], "Content-Type", octets, "Content-Range", fmt.Sprintf("%d-%d", 2*c.size, len(b)-1)).check(http.StatusRequestedRangeNotSatisfiable)
		}),
		should("push-chunks-go-on", "after a 416 the upload goes on where it stood", func(p *probe) {
			c := p.chunked()
			b := p.bytes(2 * c.size)
			c.next(0, b[:c.size])
			c.patch(5*c.size, b[c.size:]).want(http.StatusRequestedRangeNotSatisfiable)
			c.at = p.get(c.at).want(http.StatusNoContent).location()
			c.next(c.size, b[c.size:])
			d := digest.FromBytes(b)
			c.end(d).want(http.StatusCreated)
			p.get(p.blob(d)).want(http.StatusOK).same(b)
		}),
		should("push-chunks-range-form", "a `Content-Range` of another form than `0-9` is refused", func(p *probe) {
			for _, r := range []string{"abc", "9-0", "-5"} {
				c := p.chunked()
				p.send(http.MethodPatch, c.at, p.bytes(10), "Content-Type", octets, "Content-Range", r).refused()
			}
		}),
		should("push-chunks-length", "a chunk with less bytes than its `Content-Range` says is refused", func(p *probe) {
			c := p.chunked()
			p.send(http.MethodPatch, c.at, p.bytes(10), "Content-Type", octets, "Content-Range", "0-19").refused()
		}),
		must("push-chunks-mismatch", "chunks that together do not have the digest are refused", func(p *probe) {
			c := p.chunked()
			c.next(0, p.bytes(c.size))
			d := p.unknown()
			c.end(d).check(http.StatusBadRequest)
			p.get(p.blob(d)).check(http.StatusNotFound)
		}),
		should("push-chunks-interrupted", "a chunk that breaks off is taken up where it broke (use case: resumable push)", interrupted),
	)
}

// interrupted cuts a connection in the middle of a chunk, asks how far it came, and sends the rest.
func interrupted(p *probe) {
	c := p.chunked()
	b := p.bytes(256 << 10)
	cut := io.MultiReader(bytes.NewReader(b[:128<<10]), broken{})
	if _, err := p.exchange(http.MethodPatch, c.at, cut, int64(len(b)), "Content-Type", octets, "Content-Range", fmt.Sprintf("0-%d", len(b)-1)); err == nil {
		p.stop("PATCH: half a chunk was answered")
	}
	for range 20 { // the registry may be busy with the first half for a moment
		a := p.get(c.at)
		var last int
		if _, err := fmt.Sscanf(a.header.Get("Range"), "0-%d", &last); err != nil || a.status != http.StatusNoContent || last >= 128<<10 {
			break
		}
		from := last + 1
		if last == 0 {
			from = 0 // nothing came
		}
		c.at = a.location()
		if a = c.patch(from, b[from:]); a.status == http.StatusRequestedRangeNotSatisfiable {
			continue
		}
		if a.status != http.StatusAccepted {
			break
		}
		c.at = a.location()
		d := digest.FromBytes(b)
		c.end(d).want(http.StatusCreated)
		p.get(p.blob(d)).want(http.StatusOK).same(b)
		return
	}
	p.fail("the upload does not go on where the registry says that it stands") // how it fails may differ from time to time
}

// broken is a client that goes away.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("cut") }

func pushStatus() []Case {
	status := section(Push, "Pushing a blob in chunks",
		must("push-status", "`GET` of an upload's location tells how far it is: 204, with `Location` and `Range`", func(p *probe) {
			c := p.chunked()
			c.next(0, p.bytes(c.size))
			a := p.get(c.at).want(http.StatusNoContent)
			a.location()
			a.upTo(c.size)
		}),
		must("push-status-new", "so it does when nothing has come yet", func(p *probe) {
			a := p.get(p.begin()).want(http.StatusNoContent)
			a.location()
			if !rangeForm.MatchString(a.has("Range")) {
				p.fail("%s: Range is %q", a.what, a.header.Get("Range"))
			}
		}),
		must("push-status-any", "the location can be that of any answer before", func(p *probe) {
			c := p.chunked()
			first := c.at
			c.next(0, p.bytes(c.size))
			second := c.at
			c.next(c.size, p.bytes(c.size))
			for _, at := range []string{first, second, c.at} {
				p.get(at).want(http.StatusNoContent).upTo(2 * c.size)
			}
		}),
		should("push-status-closed", "an upload that was closed is answered with 404", func(p *probe) {
			at, b := p.begin(), p.bytes(100)
			p.put(at, digest.FromBytes(b), b).want(http.StatusCreated)
			p.get(at).check(http.StatusNotFound)
			p.send(http.MethodPatch, at, b, "Content-Type", octets, "Content-Range", "0-99").check(http.StatusNotFound)
			p.put(at, digest.FromBytes(b), b).check(http.StatusNotFound)
		}),
		should("push-status-closed-code", "the error is `BLOB_UPLOAD_UNKNOWN`", func(p *probe) {
			at, b := p.begin(), p.bytes(100)
			p.put(at, digest.FromBytes(b), b).want(http.StatusCreated)
			p.get(at).want(http.StatusNotFound).coded("BLOB_UPLOAD_UNKNOWN")
		}),
	)
	return append(status, section(Push, "Appendix 1 (Docker registry API)",
		may("push-cancel", "`DELETE` of an upload's location drops what came: 204", func(p *probe) {
			c := p.chunked()
			b := p.bytes(c.size)
			c.next(0, b)
			a := p.send(http.MethodDelete, c.at, nil)
			if a.is(http.StatusMethodNotAllowed, http.StatusBadRequest) {
				p.absent("refused with %d", a.status)
			}
			a.want(http.StatusNoContent)
			p.get(c.at).check(http.StatusNotFound)
			c.end(digest.FromBytes(b)).check(http.StatusNotFound)
		}),
	)...)
}
