package conformance

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's types, which are older than the specification and live on beside OCI's.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// known are the codes that an error can have.
var known = []string{
	"BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN",
	"NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS",
}

const accept = ocispec.MediaTypeImageManifest + ", " + ocispec.MediaTypeImageIndex + ", " + dockerManifest + ", " + dockerList

func pullManifests() []Case {
	support := section(Pull, "Determining support", must("pull-support", "`GET /v2/` is answered with 200", func(p *probe) {
		p.get(p.base()).want(http.StatusOK)
	}))
	return append(support, section(Pull, "Pulling manifests",
		must("pull-manifest-tag", "a manifest that is there is given under its tag, with 200", func(p *probe) {
			_, b := p.tagged("one", p.image())
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
		}),
		must("pull-manifest-digest", "it is given under its digest, with 200", func(p *probe) {
			d, b := p.tagged("one", p.image())
			p.get(p.manifest(d.Digest.String()), "Accept", accept).want(http.StatusOK).same(b)
		}),
		should("pull-manifest-type", "the answer's `Content-Type` is that of the push", func(p *probe) {
			d, _ := p.tagged("manifest", p.image())
			p.tagged("index", index(d))
			p.typed("manifest", ocispec.MediaTypeImageManifest)
			p.typed("index", ocispec.MediaTypeImageIndex)
		}),
		should("pull-manifest-type-bare", "`Content-Type` has no parameters", func(p *probe) {
			p.tagged("one", p.image())
			if a := p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK); strings.Contains(a.has("Content-Type"), ";") {
				p.fail("%s: Content-Type: %s", a.what, a.header.Get("Content-Type"))
			}
		}),
		should("pull-manifest-docker-types", "manifests of Docker's types are given to clients that accept them (content negotiation)", func(p *probe) {
			m := p.image()
			m.MediaType, m.Config.MediaType, m.Layers[0].MediaType = dockerManifest, dockerConfig, dockerLayer
			b := encode(m)
			p.offer("one", dockerManifest, b).want(http.StatusCreated)
			list := index(ocispec.Descriptor{MediaType: dockerManifest, Digest: digest.FromBytes(b), Size: int64(len(b)), Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}})
			list.MediaType = dockerList
			p.offer("all", dockerList, encode(list)).want(http.StatusCreated)
			p.typed("one", dockerManifest)
			p.typed("all", dockerList)
		}),
		should("pull-manifest-digest-header", "the answer has the manifest's digest in `Docker-Content-Digest`", func(p *probe) {
			d, _ := p.tagged("one", p.image())
			p.digestHeader(p.get(p.manifest("one"), "Accept", accept), d.Digest, true)
		}),
		must("pull-manifest-digest-header-true", "if the answer has `Docker-Content-Digest`, it is the digest of what was pushed", func(p *probe) {
			d, _ := p.tagged("one", p.image())
			p.digestHeader(p.get(p.manifest("one"), "Accept", accept), d.Digest, false)
			p.digestHeader(p.get(p.manifest(d.Digest.String()), "Accept", accept), d.Digest, false)
		}),
		must("pull-manifest-unknown", "a manifest that is not there is answered with 404, by tag and by digest", func(p *probe) {
			p.tagged("one", p.image())
			p.get(p.manifest("two")).check(http.StatusNotFound)
			p.get(p.manifest(p.unknown().String())).check(http.StatusNotFound)
		}),
		must("pull-manifest-unknown-repository", "so is one of a repository that does not exist", func(p *probe) {
			p.get(p.manifest("one")).check(http.StatusNotFound)
			p.get(p.manifest(p.unknown().String())).check(http.StatusNotFound)
		}),
		must("pull-manifest-other-repository", "a manifest is there only in the repository that it was pushed to", func(p *probe) {
			d, _ := p.tagged("one", p.image())
			p.elsewhere(func() {
				p.tagged("other", p.image())
				p.get(p.manifest("one")).check(http.StatusNotFound)
				p.get(p.manifest(d.Digest.String())).check(http.StatusNotFound)
			})
		}),
		must("pull-manifest-reference", "a reference that is neither tag nor digest gives nothing", func(p *probe) {
			p.tagged("one", p.image())
			for _, ref := range []string{".one", "-one", "on%20e", strings.Repeat("a", 129), "sha256:abc"} {
				p.get(p.manifest(ref)).check(http.StatusNotFound, http.StatusBadRequest)
			}
		}),
		must("pull-error-form", "an error's body, if it is JSON, lists errors with codes of the specification's table", func(p *probe) {
			p.tagged("one", p.image())
			for _, to := range []string{p.manifest("two"), p.manifest(p.unknown().String()), p.blob(p.unknown())} {
				a := p.get(to).want(http.StatusNotFound)
				if bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("{")) {
					a.coded(known...)
				}
			}
		}),
		should("pull-manifest-unknown-code", "the error of an unknown manifest is `MANIFEST_UNKNOWN`, of an unknown repository that or `NAME_UNKNOWN`", func(p *probe) {
			p.get(p.manifest("one")).coded("NAME_UNKNOWN", "MANIFEST_UNKNOWN")
			p.tagged("one", p.image())
			p.get(p.manifest("two")).coded("MANIFEST_UNKNOWN")
		}),
	)...)
}

// typed wants a tag's manifest to be given under a media type.
func (p *probe) typed(tag, mediaType string) {
	a := p.get(p.manifest(tag), "Accept", accept).want(http.StatusOK)
	if got, _, _ := strings.Cut(a.header.Get("Content-Type"), ";"); got != mediaType {
		p.fail("%s: the type is %q, not %s", a.what, got, mediaType)
	}
}

// digestHeader wants an answer's digest to be right; it has to be there if needed.
func (p *probe) digestHeader(a *answer, want digest.Digest, needed bool) {
	a.want(http.StatusOK)
	got := a.header.Get("Docker-Content-Digest")
	if got == "" && !needed {
		return
	}
	if got != want.String() {
		p.fail("%s: Docker-Content-Digest is missing, or another digest than that of what was pushed", a.what)
	}
}

func pullBlobs() []Case {
	return section(Pull, "Pulling blobs",
		must("pull-blob", "a blob that is there is given under its digest, with 200", func(p *probe) {
			for _, n := range []int{1, 1000, 5 << 20} {
				b := p.bytes(n)
				p.get(p.blob(p.pushed(b))).want(http.StatusOK).same(b)
			}
		}),
		must("pull-blob-empty", "so is the blob of no bytes", func(p *probe) {
			p.get(p.blob(p.pushed(nil))).want(http.StatusOK).same(nil)
		}),
		should("pull-blob-digest-header", "the answer has the blob's digest in `Docker-Content-Digest`", func(p *probe) {
			d := p.pushed(p.bytes(100))
			p.digestHeader(p.get(p.blob(d)), d, true)
		}),
		must("pull-blob-digest-header-true", "if the answer has `Docker-Content-Digest`, it fits the body", func(p *probe) {
			d := p.pushed(p.bytes(100))
			p.digestHeader(p.get(p.blob(d)), d, false)
		}),
		must("pull-blob-unknown", "a blob that is not there is answered with 404", func(p *probe) {
			p.get(p.blob(p.unknown())).check(http.StatusNotFound)
			p.pushed(p.bytes(100))
			p.get(p.blob(p.unknown())).check(http.StatusNotFound)
		}),
		must("pull-blob-other-repository", "a blob is there only in the repository that it was pushed to", func(p *probe) {
			d := p.pushed(p.bytes(100))
			p.elsewhere(func() {
				p.pushed(p.bytes(100))
				p.get(p.blob(d)).check(http.StatusNotFound)
			})
		}),
		should("pull-blob-unknown-code", "the error of an unknown blob is `BLOB_UNKNOWN`", func(p *probe) {
			p.pushed(p.bytes(100))
			p.get(p.blob(p.unknown())).want(http.StatusNotFound).coded("BLOB_UNKNOWN")
		}),
		should("pull-blob-range", "`Range` gives a part of a blob, with 206 and `Content-Range`", func(p *probe) {
			b := p.bytes(1000)
			d := p.pushed(b)
			for _, c := range []struct {
				ask      string
				from, to int
			}{{"0-0", 0, 1}, {"10-19", 10, 20}, {"900-", 900, 1000}, {"990-5000", 990, 1000}, {"-7", 993, 1000}} {
				a := p.get(p.blob(d), "Range", "bytes="+c.ask)
				if !a.check(http.StatusPartialContent) {
					continue
				}
				if want := fmt.Sprintf("bytes %d-%d/1000", c.from, c.to-1); a.header.Get("Content-Range") != want {
					p.fail("%s with bytes=%s: Content-Range is %q, not %q", a.what, c.ask, a.header.Get("Content-Range"), want)
				}
				a.same(b[c.from:c.to])
			}
		}),
		should("pull-blob-range-beyond", "`Range` behind the blob's end is answered with 416", func(p *probe) {
			d := p.pushed(p.bytes(1000))
			p.get(p.blob(d), "Range", "bytes=1000-").check(http.StatusRequestedRangeNotSatisfiable)
		}),
	)
}

func pullHeads() []Case {
	// both pushes a blob and a manifest and gives where they are, with their descriptors.
	type place struct {
		url string
		ocispec.Descriptor
	}
	both := func(p *probe) []place {
		m := p.image()
		d, _ := p.tagged("one", m)
		return []place{{p.manifest("one"), d}, {p.manifest(d.Digest.String()), d}, {p.blob(m.Layers[0].Digest), m.Layers[0]}}
	}
	return section(Pull, "Checking if content exists in the registry",
		must("pull-head", "`HEAD` of a manifest or blob that is there is answered with 200, without a body", func(p *probe) {
			for _, at := range both(p) {
				p.head(at.url, "Accept", accept).want(http.StatusOK).same(nil)
			}
		}),
		should("pull-head-digest", "the answer has the digest in `Docker-Content-Digest`", func(p *probe) {
			for _, at := range both(p) {
				p.digestHeader(p.head(at.url, "Accept", accept), at.Digest, true)
			}
		}),
		should("pull-head-size", "the answer has the size in `Content-Length`", func(p *probe) {
			for _, at := range both(p) {
				a := p.head(at.url, "Accept", accept).want(http.StatusOK)
				if a.header.Get("Content-Length") != fmt.Sprint(at.Size) {
					p.fail("%s: Content-Length is not the size", a.what)
				}
			}
		}),
		should("pull-head-like-get", "what describes the content is the same as for `GET`", func(p *probe) {
			for _, at := range both(p) {
				h, g := p.head(at.url, "Accept", accept).want(http.StatusOK), p.get(at.url, "Accept", accept).want(http.StatusOK)
				for _, f := range []string{"Content-Type", "Content-Length", "Docker-Content-Digest", "Etag", "Accept-Ranges"} {
					if h.header.Get(f) != g.header.Get(f) {
						p.fail("%s: %s is not that of GET", h.what, f)
					}
				}
			}
		}),
		must("pull-head-unknown", "`HEAD` of what is not there is answered with 404", func(p *probe) {
			p.head(p.manifest("one")).check(http.StatusNotFound)
			both(p)
			for _, to := range []string{p.manifest("two"), p.manifest(p.unknown().String()), p.blob(p.unknown())} {
				p.head(to).check(http.StatusNotFound)
			}
		}),
	)
}
