package conformance

import (
	"net/http"
	"net/url"
	"strings"
)

func pushNames() []Case {
	// at opens an upload in a repository below the case's own.
	at := func(p *probe, name string) *answer {
		return p.send(http.MethodPost, p.in(p.repo)+"/"+name+"/blobs/uploads/", nil)
	}
	return section(Push, "Pulling manifests",
		must("push-name", "names of the form that the specification has are taken", func(p *probe) {
			for _, name := range []string{"a", "0", "a/b/c/d/e/f", "a.b", "a_b", "a__b", "a-b", "a---b", "a-b.c_d__e/0/1"} {
				if a := at(p, name); !a.check(http.StatusAccepted) {
					p.fail("the name was %s", name)
				}
			}
		}),
		must("push-name-wrong", "other names are refused", func(p *probe) {
			for _, name := range []string{"A", "a..b", "a___b", "a_", "-a", "a-/b", "a._b", "%C3%A9", "a%20b"} {
				if a := at(p, name); !a.refused() {
					p.fail("the name was %s", name)
				}
			}
		}),
		should("push-name-wrong-code", "with `NAME_INVALID`", func(p *probe) {
			if a := at(p, "UPPER"); a.refused() {
				a.coded("NAME_INVALID")
			}
		}),
		should("push-name-long", "a name that makes 255 characters with the registry's is taken", func(p *probe) {
			u, err := url.Parse(p.target.URL)
			if err != nil {
				p.stop("the registry's URL is none")
			}
			n := 255 - len(u.Host) - 1 - len(p.repo) - 1
			name := strings.Repeat("0123456789/", 25)[:n-1] + "x"
			p.repo += "/" + name
			_, b := p.tagged("one", p.image())
			p.get(p.manifest("one"), "Accept", accept).want(http.StatusOK).same(b)
		}),
		must("push-tag", "tags of the form that the specification has are taken, up to 128 characters", func(p *probe) {
			m := p.image()
			for _, tag := range []string{"a", "A", "0", "_", "_._-", "v1.2.3-rc_1", strings.Repeat("Ab9._-x_", 16)} {
				_, b := p.tagged(tag, m)
				p.get(p.manifest(tag), "Accept", accept).want(http.StatusOK).same(b)
			}
		}),
		must("push-tag-wrong", "other tags are refused", func(p *probe) {
			b := encode(p.image())
			for _, tag := range []string{".a", "-a", "a%20b", "a+b", "%C3%A9", strings.Repeat("a", 129)} {
				if a := p.offer(tag, "application/vnd.oci.image.manifest.v1+json", b); !a.refused() {
					p.fail("the tag was %s", tag)
				}
			}
		}),
	)
}
