package conformance

import (
	"bytes"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func pushManifests() []Case {
	const plain = ocispec.MediaTypeImageManifest
	return slices.Concat(section(Push, "Pushing manifests",
		must("push-manifest-tag", "a manifest is pushed under a tag: 201, with a `Location` that it can be pulled from", func(p *probe) {
			b := encode(p.image())
			p.get(p.offer("one", plain, b).want(http.StatusCreated).location(), "Accept", accept).want(http.StatusOK).same(b)
		}),
		must("push-manifest-digest", "or under its digest", func(p *probe) {
			b := encode(p.image())
			p.get(p.offer("", plain, b).want(http.StatusCreated).location(), "Accept", accept).want(http.StatusOK).same(b)
			p.get(p.manifest(digest.FromBytes(b).String()), "Accept", accept).want(http.StatusOK).same(b)
		}),
		must("push-manifest-digest-header", "the answer's `Docker-Content-Digest`, if it is there, is the client's digest", func(p *probe) {
			b := encode(p.image())
			a := p.offer("", plain, b).want(http.StatusCreated)
			if got := a.header.Get("Docker-Content-Digest"); got != "" && got != digest.FromBytes(b).String() {
				p.fail("%s: Docker-Content-Digest is another digest", a.what)
			}
		}),
		must("push-manifest-mismatch", "a manifest that does not have the digest is refused, and not kept", func(p *probe) {
			d := p.unknown()
			p.offer(d.String(), plain, encode(p.image())).refused()
			p.get(p.manifest(d.String())).check(http.StatusNotFound)
		}),
		should("push-manifest-mismatch-code", "the error is `DIGEST_INVALID`", func(p *probe) {
			p.offer(p.unknown().String(), plain, encode(p.image())).coded("DIGEST_INVALID")
		}),
		may("push-manifest-sha512", "a manifest can be pushed under its digest of sha512", func(p *probe) {
			b := encode(p.image())
			d := digest.SHA512.FromBytes(b)
			a := p.offer(d.String(), plain, b)
			if a.status != http.StatusCreated {
				a.want(http.StatusBadRequest)
				p.absent("refused with 400")
			}
			if got := a.header.Get("Docker-Content-Digest"); got != "" && got != d.String() {
				p.fail("%s: Docker-Content-Digest is another digest than the client's", a.what)
			}
			p.get(p.manifest(d.String()), "Accept", accept).want(http.StatusOK).same(b)
		}),
		must("push-manifest-bytes", "its bytes stay as they are: order, white space, unknown fields", func(p *probe) {
			b := encode(p.image())
			b = append([]byte("{\n  \"x-unknown\" :  [ 1.50, \"\\u00e9\" ] ,"), b[1:]...)
			b = append(b, "\n\n"...)
			p.offer("one", plain, b).want(http.StatusCreated)
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
			p.get(p.manifest(digest.FromBytes(b).String()), "Accept", accept).want(http.StatusOK).same(b)
		}),
		must("push-manifest-move", "a tag that is pushed anew names the new manifest; the old one keeps its digest", func(p *probe) {
			old, oldBytes := p.tagged("one", p.image())
			_, b := p.tagged("one", p.image())
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
			p.get(p.manifest(old.Digest.String()), "Accept", accept).want(http.StatusOK).same(oldBytes)
		}),
		must("push-manifest-no-layers", "the list of blobs may be empty", func(p *probe) {
			m := p.image()
			m.Layers = []ocispec.Descriptor{}
			_, b := p.tagged("one", m)
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
		}),
		must("push-manifest-artifact", "manifests of other things than images are taken, with types that the registry does not know", func(p *probe) {
			_, b := p.tagged("one", p.artifact("application/vnd.test.thing+json"))
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
			m := p.image()
			m.Config.MediaType, m.Layers[0].MediaType = "application/vnd.test.config.v9+json", "application/vnd.test.layer.v9"
			p.tagged("two", m)
		}),
		must("push-manifest-index", "an index of manifests is taken; it and its children are given each", func(p *probe) {
			one, oneBytes := p.tagged("", p.image())
			two, _ := p.tagged("", p.image())
			one.Platform, two.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}, &ocispec.Platform{OS: "linux", Architecture: "arm64"}
			d, b := p.tagged("all", index(one, two))
			p.get(p.manifest("all"), "Accept", accept).want(http.StatusOK).same(b)
			p.get(p.manifest(d.Digest.String()), "Accept", accept).want(http.StatusOK).same(b)
			p.get(p.manifest(one.Digest.String()), "Accept", accept).want(http.StatusOK).same(oneBytes)
		}),
		must("push-manifest-index-nested", "so are an index of no manifests, and an index of indexes", func(p *probe) {
			empty, _ := p.tagged("empty", index())
			_, b := p.tagged("outer", index(empty))
			p.get(p.manifest("outer"), "Accept", accept).want(http.StatusOK).same(b)
		}),
		should("push-manifest-type-parameters", "parameters of the push's `Content-Type` do not matter", func(p *probe) {
			b := encode(p.image())
			p.offer("one", plain+"; charset=utf-8", b).want(http.StatusCreated)
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
			p.typed("one", plain)
		}),
		should("push-manifest-4mib", "a manifest of 4 MiB is taken", func(p *probe) {
			b := sized(p.image(), 4<<20)
			p.offer("one", plain, b).want(http.StatusCreated)
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
		}),
		should("push-manifest-too-large", "one of 32 MiB is too large: 413", func(p *probe) {
			b := sized(p.image(), 32<<20)
			// A registry that answers before it has read all may end the connection before the answer is read.
			a, err := p.exchange(http.MethodPut, p.manifest("one"), bytes.NewReader(b), int64(len(b)), "Content-Type", plain, "Expect", "100-continue")
			if err != nil || a.status != http.StatusRequestEntityTooLarge {
				p.fail("PUT /v2/<name>/manifests/one: a manifest of 32 MiB is not answered with 413")
			}
		}),
		should("push-manifest-garbage", "what is no manifest is refused, with `MANIFEST_INVALID`", func(p *probe) {
			p.pushed(p.bytes(10))
			for _, b := range []string{"", "no JSON", "[]", `{"schemaVersion": 2, "mediaType": "` + plain + `", "config": 1}`} {
				if a := p.offer("one", plain, []byte(b)); a.refused() {
					a.coded("MANIFEST_INVALID")
				}
			}
		}),
		should("push-manifest-other-type", "a manifest whose `mediaType` is not the push's `Content-Type` is refused", func(p *probe) {
			p.offer("one", ocispec.MediaTypeImageIndex, encode(p.image())).refused()
		}),
	), section(Push, "Push",
		must("push-manifest-missing-blob", "a manifest whose blobs are not there is taken, or refused with `MANIFEST_BLOB_UNKNOWN`", func(p *probe) {
			m := p.image()
			m.Layers[0].Digest = p.unknown()
			p.missing(plain, encode(m))
		}),
		must("push-manifest-missing-child", "so is an index whose manifests are not there", func(p *probe) {
			p.pushed(p.bytes(10))
			p.missing(ocispec.MediaTypeImageIndex, encode(index(ocispec.Descriptor{MediaType: plain, Digest: p.unknown(), Size: 100})))
		}),
	))
}

// missing pushes a manifest that names what is not there.
func (p *probe) missing(mediaType string, b []byte) {
	if a := p.offer("one", mediaType, b); a.status != http.StatusCreated && a.refused() {
		a.coded("MANIFEST_BLOB_UNKNOWN")
		p.get(p.manifest("one")).check(http.StatusNotFound)
	}
}

// sized blows a manifest up to so many bytes.
func sized(m ocispec.Manifest, n int) []byte {
	m.Annotations = map[string]string{"test.fill": ""}
	m.Annotations["test.fill"] = strings.Repeat("x", n-len(encode(m)))
	return encode(m)
}

func pushSubjects() []Case {
	return append(section(Push, "Push",
		must("push-subject-unknown", "a manifest whose subject is not there is taken", func(p *probe) {
			m := p.artifact("application/vnd.test")
			m.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: p.unknown(), Size: 100}
			_, b := p.tagged("one", m)
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
		}),
	), section(Push, "Pushing manifests with subject",
		must("push-subject-header", "the answer to a manifest with a subject says so in `OCI-Subject`", func(p *probe) {
			for _, there := range []bool{true, false} {
				subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: p.unknown(), Size: 100}
				if there {
					subject, _ = p.tagged("", p.image())
				}
				m := p.artifact("application/vnd.test")
				m.Subject = &subject
				if a := p.offer("", m.MediaType, encode(m)).want(http.StatusCreated); a.header.Get("OCI-Subject") != subject.Digest.String() {
					p.stop("%s: no OCI-Subject, or another digest", a.what)
				}
			}
		}),
	)...)
}
