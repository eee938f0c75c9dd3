package conformance

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// referring asks for the manifests that refer to a subject, over all pages.
func (p *probe) referring(d digest.Digest, query string) (first *answer, all []ocispec.Descriptor) {
	for to, page := p.referrers(d)+query, 0; to != "" && page < 100; page++ {
		a := p.get(to).want(http.StatusOK)
		var i struct {
			SchemaVersion int
			MediaType     string
			Manifests     *[]ocispec.Descriptor
		}
		a.decode(&i)
		if i.SchemaVersion != 2 || i.MediaType != ocispec.MediaTypeImageIndex || i.Manifests == nil {
			p.stop("%s: the body is no image index", a.what)
		}
		if first == nil {
			first = a
		}
		all = append(all, *i.Manifests...)
		to = a.next()
	}
	return first, all
}

// refers wants just these manifests to refer to a subject, and gives their descriptors in that order.
func (p *probe) refers(d digest.Digest, query string, want ...digest.Digest) []ocispec.Descriptor {
	a, got := p.referring(d, query)
	out := make([]ocispec.Descriptor, 0, len(want))
	for _, w := range want {
		if i := slices.IndexFunc(got, func(g ocispec.Descriptor) bool { return g.Digest == w }); i >= 0 {
			out = append(out, got[i])
		}
	}
	if len(got) != len(want) || len(out) != len(want) {
		p.stop("%s: %d manifests, of which %d should be there, not %d", a.what, len(got), len(out), len(want))
	}
	return out
}

// referrer pushes an artifact about a subject.
func (p *probe) referrer(subject ocispec.Descriptor, artifactType string) (ocispec.Descriptor, ocispec.Manifest) {
	m := p.artifact(artifactType)
	m.Subject = &subject
	d, _ := p.tagged("", m)
	return d, m
}

func listReferrers() []Case {
	const sbom, signature = "application/vnd.test.sbom+json", "application/vnd.test.signature"
	return section(Discovery, "Listing referrers",
		must("referrers-list", "the manifests of a subject are listed as an image index: 200, with an index's `Content-Type`", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			one, _ := p.referrer(subject, sbom)
			two, _ := p.referrer(subject, signature)
			for i, d := range p.refers(subject.Digest, "", one.Digest, two.Digest) {
				if want := []ocispec.Descriptor{one, two}[i]; d.MediaType != want.MediaType || d.Size != want.Size {
					p.fail("a descriptor has not the type or the size of its manifest")
				}
			}
			if a, _ := p.referring(subject.Digest, ""); a.header.Get("Content-Type") != ocispec.MediaTypeImageIndex {
				p.fail("%s: the type is %q", a.what, a.header.Get("Content-Type"))
			}
		}),
		must("referrers-type", "each with its `artifactType`", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			one, _ := p.referrer(subject, sbom)
			if got := p.refers(subject.Digest, "", one.Digest)[0].ArtifactType; got != sbom {
				p.fail("artifactType is %q, not %s", got, sbom)
			}
		}),
		must("referrers-type-of-config", "or, if it has none, the type of its configuration", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			m := p.image()
			m.Config.MediaType, m.Subject = signature, &subject
			one, _ := p.tagged("", m)
			if got := p.refers(subject.Digest, "", one.Digest)[0].ArtifactType; got != signature {
				p.fail("artifactType is %q, not %s", got, signature)
			}
		}),
		must("referrers-index", "an index with a subject is listed too; without an `artifactType` if it has none", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			bare, typed := index(), index()
			bare.Subject, typed.Subject, typed.ArtifactType = &subject, &subject, sbom
			one, _ := p.tagged("", bare)
			two, _ := p.tagged("", typed)
			got := p.refers(subject.Digest, "", one.Digest, two.Digest)
			if got[0].ArtifactType != "" || got[1].ArtifactType != sbom {
				p.fail("artifactTypes are %q and %q, not %q and %q", got[0].ArtifactType, got[1].ArtifactType, "", sbom)
			}
		}),
		must("referrers-annotations", "each with its annotations", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			one, m := p.referrer(subject, sbom)
			if got := p.refers(subject.Digest, "", one.Digest)[0].Annotations; !maps.Equal(got, m.Annotations) {
				p.fail("the annotations are not those of the manifest")
			}
		}),
		must("referrers-none", "a subject that nothing refers to has an empty list, known or not", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			p.refers(subject.Digest, "")
			p.refers(p.unknown(), "")
		}),
		must("referrers-before-subject", "a manifest is listed though its subject is not there", func(p *probe) {
			subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: p.unknown(), Size: 100}
			one, _ := p.referrer(subject, sbom)
			p.refers(subject.Digest, "", one.Digest)
		}),
		must("referrers-own-repository", "only manifests of the same repository are listed", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			one, _ := p.referrer(subject, sbom)
			p.elsewhere(func() { p.referrer(subject, sbom) })
			p.refers(subject.Digest, "", one.Digest)
		}),
		must("referrers-many", "many are listed all, on pages by `Link` if there are several", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			m := p.artifact(sbom)
			m.Subject = &subject
			p.refers(subject.Digest, "") // without referrers at all there is no need to push many
			var all []digest.Digest
			for i := range 120 {
				m.Annotations = map[string]string{"test.n": fmt.Sprint(i)}
				d, _ := p.tagged("", m)
				all = append(all, d.Digest)
			}
			p.refers(subject.Digest, "", all...)
		}),
		must("referrers-wrong", "what is no digest is answered with 400", func(p *probe) {
			p.tagged("one", p.image())
			p.get(p.referrers("sha256:abc")).check(http.StatusBadRequest)
		}),
		should("referrers-filter", "`artifactType` picks those of a type", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			one, _ := p.referrer(subject, sbom)
			p.referrer(subject, signature)
			p.refers(subject.Digest, "?artifactType="+url.QueryEscape(sbom), one.Digest)
			p.refers(subject.Digest, "?artifactType=none")
		}),
		must("referrers-filter-header", "if it does, the answer says so in `OCI-Filters-Applied`; if it does not, all are there", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			p.referrer(subject, sbom)
			p.referrer(subject, signature)
			a, got := p.referring(subject.Digest, "?artifactType="+url.QueryEscape(sbom))
			switch applied := a.header.Get("OCI-Filters-Applied"); {
			case applied == "" && len(got) != 2:
				p.fail("%s: filtered, and no OCI-Filters-Applied", a.what)
			case applied != "" && (applied != "artifactType" || len(got) != 1):
				p.fail("%s: OCI-Filters-Applied is %q, with %d of 2 manifests", a.what, applied, len(got))
			}
			if a, _ := p.referring(subject.Digest, ""); a.header.Get("OCI-Filters-Applied") != "" {
				p.fail("%s: OCI-Filters-Applied though nothing was filtered", a.what)
			}
		}),
	)
}
