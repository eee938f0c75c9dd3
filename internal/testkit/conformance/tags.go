package conformance

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// list asks for tags and gives them. The body has to have the specification's form.
func (p *probe) list(query string) (*answer, []string) {
	a := p.get(p.tags(query)).want(http.StatusOK)
	var body struct {
		Name *string
		Tags *[]string
	}
	a.decode(&body)
	if body.Name == nil || *body.Name != p.repo || body.Tags == nil {
		p.stop(`%s: the body is not {"name": "<name>", "tags": […]}`, a.what)
	}
	return a, *body.Tags
}

// lists wants a query to give just these tags.
func (p *probe) lists(query string, want ...string) *answer {
	a, got := p.list(query)
	p.equal(a.what, got, want)
	return a
}

// equal compares tags. What it says does not depend on the order in which a registry without one gives them.
func (p *probe) equal(what string, got, want []string) {
	if slices.Equal(got, want) {
		return
	}
	sorted := slices.Sorted(slices.Values(got))
	if slices.Equal(sorted, slices.Sorted(slices.Values(want))) {
		p.fail("%s: the tags are not in order", what)
	} else {
		p.fail("%s: %s, not %s", what, abridged(sorted), abridged(want))
	}
}

func abridged(tags []string) string {
	if len(tags) > 8 {
		return fmt.Sprintf("%d tags", len(tags))
	}
	return "[" + strings.Join(tags, " ") + "]"
}

// tagAll pushes one manifest under many tags.
func (p *probe) tagAll(tags ...string) {
	m := p.image()
	for _, t := range tags {
		p.tagged(t, m)
	}
}

var nextForm = regexp.MustCompile(`<([^>]+)>\s*;\s*rel="?next"?`)

// next is where the answer's Link sends the client on; "" if it has none.
func (a *answer) next() string {
	link := a.header.Get("Link")
	if link == "" {
		return ""
	}
	m := nextForm.FindStringSubmatch(link)
	if m == nil {
		a.p.stop(`%s: the Link is not <…>; rel="next"`, a.what)
	}
	to, err := a.url.Parse(m[1])
	if err != nil {
		a.p.stop("%s: the Link is no URL", a.what)
	}
	return to.String()
}

func listTags() []Case {
	return section(Discovery, "Listing tags",
		must("tags-list", "the tags of a repository are listed with its name: 200", func(p *probe) {
			p.tagAll("one")
			p.lists("", "one")
		}),
		must("tags-order", "in lexical order", func(p *probe) {
			p.tagAll("c", "a10", "b", "a2", "0", "a", "d-1", "d")
			p.lists("", "0", "a", "a10", "a2", "b", "c", "d", "d-1")
		}),
		must("tags-order-case", "which does not tell upper and lower case apart", func(p *probe) {
			p.tagAll("c", "A", "b", "D", "f", "E", "H", "g")
			p.lists("", "A", "b", "c", "D", "E", "f", "g", "H")
		}),
		must("tags-none", "a repository without tags has an empty list", func(p *probe) {
			p.tagged("", p.image())
			p.lists("")
		}),
		must("tags-unknown", "a repository that does not exist is answered with 404", func(p *probe) {
			p.get(p.tags("")).check(http.StatusNotFound)
		}),
		should("tags-unknown-code", "with `NAME_UNKNOWN`", func(p *probe) {
			p.get(p.tags("")).want(http.StatusNotFound).coded("NAME_UNKNOWN")
		}),
		must("tags-n", "`n` gives so many from the beginning, or all; fewer only with a `Link`", func(p *probe) {
			p.tagAll("d", "b", "a", "c")
			for n, want := range [][]string{1: {"a"}, 2: {"a", "b"}, 4: {"a", "b", "c", "d"}, 9: {"a", "b", "c", "d"}} {
				if want == nil {
					continue
				}
				a, got := p.list(fmt.Sprintf("?n=%d", n))
				if len(got) < len(want) && a.next() != "" {
					want = want[:len(got)]
				}
				p.equal(a.what, got, want)
			}
		}),
		must("tags-n-zero", "`n=0` gives an empty list, and no `Link`", func(p *probe) {
			p.tagAll("a", "b")
			if a := p.lists("?n=0"); a.header.Get("Link") != "" {
				p.fail("%s: there is a Link", a.what)
			}
		}),
		must("tags-last", "`last` gives what comes after that tag", func(p *probe) {
			p.tagAll("a", "b", "c", "d")
			p.lists("?n=2&last=a", "b", "c")
			p.lists("?n=2&last=c", "d")
			p.lists("?n=2&last=d")
		}),
		must("tags-last-alone", "`last` does not need `n`", func(p *probe) {
			p.tagAll("a", "b", "c")
			p.lists("?last=a", "b", "c")
		}),
		must("tags-walk", "page by page, by `Link` where there is one, else by `last`, each tag comes once, in order", func(p *probe) {
			var want []string
			for i := range 25 {
				want = append(want, fmt.Sprintf("t%02d", i))
			}
			p.tagAll(want...)
			var got []string
			for query, page := p.tags("?n=4"), 0; query != "" && page < 30; page++ {
				a := p.get(query).want(http.StatusOK)
				var body struct{ Tags []string }
				a.decode(&body)
				got = append(got, body.Tags...)
				if query = a.next(); query == "" && len(body.Tags) == 4 {
					query = p.tags("?n=4&last=" + body.Tags[3])
				}
			}
			p.equal("GET /v2/<name>/tags/list?n=4, all pages", got, want)
		}),
		may("tags-link", "`Link` says where the next page is", func(p *probe) {
			p.tagAll("a", "b", "c")
			a, _ := p.list("?n=2")
			next := a.next()
			if next == "" {
				p.absent("no Link")
			}
			var body struct{ Tags []string }
			p.get(next).want(http.StatusOK).decode(&body)
			p.equal("the page that Link names", body.Tags, []string{"c"})
		}),
	)
}
