package conformance

import (
	"bytes"
	"net/http"
	"sync"

	"github.com/opencontainers/go-digest"
)

func pushBlobs() []Case {
	post := section(Push, "POST then PUT",
		must("push-post", "`POST` opens an upload: 202, with a `Location`", func(p *probe) {
			p.begin()
		}),
		must("push-post-unique", "each upload has a session of its own", func(p *probe) {
			one, two := p.begin(), p.begin()
			if one == two {
				p.fail("POST /v2/<name>/blobs/uploads/: two uploads have one Location")
			}
			a, b := p.bytes(100), p.bytes(100)
			p.put(two, digest.FromBytes(b), b).check(http.StatusCreated)
			p.put(one, digest.FromBytes(a), a).check(http.StatusCreated)
		}),
		must("push-put", "`PUT` to the location with digest and bytes makes the blob: 201", func(p *probe) {
			b := p.bytes(100)
			d := digest.FromBytes(b)
			p.put(p.begin(), d, b).want(http.StatusCreated)
			p.get(p.blob(d)).want(http.StatusOK).same(b)
		}),
		must("push-put-location", "the answer has a `Location` that the blob can be pulled from", func(p *probe) {
			b := p.bytes(100)
			p.get(p.put(p.begin(), digest.FromBytes(b), b).want(http.StatusCreated).location()).want(http.StatusOK).same(b)
		}),
		must("push-put-again", "a blob that is there can be pushed once more", func(p *probe) {
			b := p.bytes(100)
			p.pushed(b)
			p.get(p.blob(p.pushed(b))).want(http.StatusOK).same(b)
		}),
		must("push-put-mismatch", "bytes that do not have the digest are refused, and not kept", func(p *probe) {
			d := p.unknown()
			p.put(p.begin(), d, p.bytes(100)).check(http.StatusBadRequest)
			p.get(p.blob(d)).check(http.StatusNotFound)
		}),
		should("push-put-mismatch-code", "the error is `DIGEST_INVALID`", func(p *probe) {
			p.put(p.begin(), p.unknown(), p.bytes(100)).coded("DIGEST_INVALID")
		}),
		must("push-put-no-digest", "a closing `PUT` without a digest is refused", func(p *probe) {
			p.send(http.MethodPut, p.begin(), p.bytes(100), "Content-Type", octets).refused()
		}),
		must("push-put-no-such-digest", "so is one with something else than a digest", func(p *probe) {
			for _, d := range []digest.Digest{"sha256:abc", "abc", "nosuch:0123456789abcdef"} {
				p.put(p.begin(), d, p.bytes(100)).refused()
			}
		}),
		may("push-put-sha512", "digests of sha512 are taken and served (image specification, digests)", func(p *probe) {
			b := p.bytes(100)
			d := digest.SHA512.FromBytes(b)
			if a := p.put(p.begin(), d, b); a.status != http.StatusCreated {
				a.want(http.StatusBadRequest)
				p.absent("refused with 400")
			}
			p.get(p.blob(d)).want(http.StatusOK).same(b)
			p.put(p.begin(), digest.SHA512.FromBytes(p.bytes(100)), b).check(http.StatusBadRequest)
		}),
		must("push-concurrent", "one blob pushed by many at a time: all of them get through, and it is whole", func(p *probe) {
			b := p.bytes(1 << 20)
			d := digest.FromBytes(b)
			var wg sync.WaitGroup
			answers := make([]*answer, 8)
			for i := range answers {
				at := p.begin()
				wg.Go(func() {
					answers[i], _ = p.exchange(http.MethodPut, p.with(at, "digest", d.String()), bytes.NewReader(b), int64(len(b)), "Content-Type", octets)
				})
			}
			wg.Wait()
			for _, a := range answers {
				if a == nil || a.status != http.StatusCreated {
					p.stop("not all of eight pushes of a blob at the same time got through")
				}
			}
			p.get(p.blob(d)).want(http.StatusOK).same(b)
		}),
	)
	return append(post, section(Push, "Single POST",
		must("push-single", "`POST` with digest and bytes makes the blob, 201, or opens an upload that a `PUT` completes, 202", func(p *probe) {
			b := p.bytes(100)
			d := digest.FromBytes(b)
			a := p.single(d, b).want(http.StatusCreated, http.StatusAccepted)
			if a.status == http.StatusAccepted {
				a = p.put(a.location(), d, b).want(http.StatusCreated)
			}
			p.get(a.location()).want(http.StatusOK).same(b)
			p.get(p.blob(d)).want(http.StatusOK).same(b)
		}),
		must("push-single-mismatch", "it does not make a blob of other bytes than the digest's", func(p *probe) {
			d := p.unknown()
			if a := p.single(d, p.bytes(100)); a.status != http.StatusAccepted {
				a.refused()
			}
			p.get(p.blob(d)).check(http.StatusNotFound)
		}),
		may("push-single-at-once", "one `POST` is enough", func(p *probe) {
			b := p.bytes(100)
			if p.single(digest.FromBytes(b), b).want(http.StatusCreated, http.StatusAccepted).status == http.StatusAccepted {
				p.absent("a PUT is needed")
			}
		}),
	)...)
}

func (p *probe) single(d digest.Digest, b []byte) *answer {
	return p.send(http.MethodPost, p.with(p.uploads(), "digest", d.String()), b, "Content-Type", octets)
}
