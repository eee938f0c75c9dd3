package conformance

import (
	"net/http"

	"github.com/opencontainers/go-digest"
)

// remove deletes something. A registry that does not delete such things says so with 400 or 405.
func (p *probe) remove(to string) {
	a := p.send(http.MethodDelete, to, nil)
	if a.is(http.StatusBadRequest, http.StatusMethodNotAllowed) {
		p.absent("refused with %d", a.status)
	}
	a.want(http.StatusAccepted)
}

// gone wants deleting something again, or something that never was, to be answered with 404.
func (p *probe) gone(to string) {
	a := p.send(http.MethodDelete, to, nil)
	if a.is(http.StatusBadRequest, http.StatusMethodNotAllowed) {
		p.absent("refused with %d", a.status)
	}
	a.check(http.StatusNotFound)
}

func deleteTags() []Case {
	return section(Management, "Deleting tags",
		may("delete-tag", "`DELETE` of a tag is answered with 202", func(p *probe) {
			p.tagged("one", p.image())
			p.remove(p.manifest("one"))
		}),
		must("delete-tag-gone", "the tag is 404 from then on, and in no list", func(p *probe) {
			p.tagAll("one", "two")
			p.remove(p.manifest("one"))
			p.get(p.manifest("one")).check(http.StatusNotFound)
			p.lists("", "two")
		}),
		must("delete-tag-only", "its manifest is there by digest and by other tags", func(p *probe) {
			m := p.image()
			d, b := p.tagged("one", m)
			p.tagged("two", m)
			p.remove(p.manifest("one"))
			p.get(p.manifest("two"), "Accept", accept).want(http.StatusOK).same(b)
			p.get(p.manifest(d.Digest.String()), "Accept", accept).want(http.StatusOK).same(b)
		}),
		must("delete-tag-again", "it can be pushed anew", func(p *probe) {
			p.tagged("one", p.image())
			p.remove(p.manifest("one"))
			_, b := p.tagged("one", p.image())
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
		}),
		should("delete-tag-unknown", "a tag that is not there is answered with 404", func(p *probe) {
			p.tagged("one", p.image())
			p.gone(p.manifest("two"))
		}),
	)
}

func deleteManifests() []Case {
	return section(Management, "Deleting manifests",
		may("delete-manifest", "`DELETE` of a manifest by its digest is answered with 202", func(p *probe) {
			d, _ := p.tagged("one", p.image())
			p.remove(p.manifest(d.Digest.String()))
		}),
		must("delete-manifest-gone", "it is 404 from then on, by digest and by each of its tags", func(p *probe) {
			m := p.image()
			d, _ := p.tagged("one", m)
			p.tagged("two", m)
			p.remove(p.manifest(d.Digest.String()))
			for _, ref := range []string{d.Digest.String(), "one", "two"} {
				p.get(p.manifest(ref)).check(http.StatusNotFound)
				p.head(p.manifest(ref)).check(http.StatusNotFound)
			}
		}),
		must("delete-manifest-tags", "its tags are in no list; those of others stay", func(p *probe) {
			d, _ := p.tagged("one", p.image())
			p.tagged("two", p.image())
			p.remove(p.manifest(d.Digest.String()))
			p.lists("", "two")
		}),
		must("delete-manifest-unknown-repository", "a repository that does not exist is answered with 404", func(p *probe) {
			p.gone(p.manifest(p.unknown().String()))
		}),
		should("delete-manifest-unknown", "so is a manifest that is not there, or not any more", func(p *probe) {
			d, _ := p.tagged("one", p.image())
			p.gone(p.manifest(p.unknown().String()))
			p.remove(p.manifest(d.Digest.String()))
			p.gone(p.manifest(d.Digest.String()))
		}),
		must("delete-manifest-again", "it can be pushed anew", func(p *probe) {
			m := p.image()
			d, _ := p.tagged("one", m)
			p.remove(p.manifest(d.Digest.String()))
			_, b := p.tagged("one", m)
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
		}),
		must("delete-manifest-child", "the children of a deleted index stay", func(p *probe) {
			child, b := p.tagged("", p.image())
			d, _ := p.tagged("all", index(child))
			p.remove(p.manifest(d.Digest.String()))
			p.get(p.manifest(child.Digest.String()), "Accept", accept).want(http.StatusOK).same(b)
		}),
		must("delete-manifest-other-repository", "the same manifest in another repository stays", func(p *probe) {
			m := index()
			m.Annotations = map[string]string{"test.made": p.repo}
			var b []byte
			p.elsewhere(func() { _, b = p.tagged("one", m) })
			d, _ := p.tagged("one", m)
			p.remove(p.manifest(d.Digest.String()))
			p.elsewhere(func() { p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b) })
		}),
		must("delete-referrer", "a deleted manifest does not refer to its subject any more", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			one, _ := p.referrer(subject, "application/vnd.test")
			two, _ := p.referrer(subject, "application/vnd.test")
			p.remove(p.manifest(one.Digest.String()))
			p.refers(subject.Digest, "", two.Digest)
		}),
		must("delete-subject", "what refers to a deleted manifest is listed on", func(p *probe) {
			subject, _ := p.tagged("one", p.image())
			one, _ := p.referrer(subject, "application/vnd.test")
			p.remove(p.manifest(subject.Digest.String()))
			p.refers(subject.Digest, "", one.Digest)
		}),
	)
}

func deleteBlobs() []Case {
	return section(Management, "Deleting blobs",
		may("delete-blob", "`DELETE` of a blob is answered with 202", func(p *probe) {
			p.remove(p.blob(p.pushed(p.bytes(100))))
		}),
		must("delete-blob-gone", "it is 404 from then on", func(p *probe) {
			d, other := p.pushed(p.bytes(100)), p.pushed(p.bytes(100))
			p.remove(p.blob(d))
			p.get(p.blob(d)).check(http.StatusNotFound)
			p.head(p.blob(d)).check(http.StatusNotFound)
			p.get(p.blob(other)).check(http.StatusOK)
		}),
		must("delete-blob-unknown", "a blob that is not there is answered with 404", func(p *probe) {
			p.pushed(p.bytes(100))
			p.gone(p.blob(p.unknown()))
		}),
		must("delete-blob-again", "it can be pushed anew", func(p *probe) {
			b := p.bytes(100)
			p.remove(p.blob(p.pushed(b)))
			p.get(p.blob(p.pushed(b))).want(http.StatusOK).same(b)
		}),
		must("delete-blob-other-repository", "the same blob in another repository stays", func(p *probe) {
			b := p.bytes(100)
			var d digest.Digest
			p.elsewhere(func() { d = p.pushed(b) })
			p.remove(p.blob(p.pushed(b)))
			p.elsewhere(func() { p.get(p.blob(d)).want(http.StatusOK).same(b) })
		}),
	)
}
