package conformance

import (
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
)

// mount asks for a blob of another repository, which may be "".
func (p *probe) mount(d digest.Digest, from string) *answer {
	q := url.Values{"mount": {d.String()}}
	if from != "" {
		q.Set("from", from)
	}
	return p.send(http.MethodPost, p.uploads()+"?"+q.Encode(), nil)
}

func pushMounts() []Case {
	// there pushes a blob to the other repository.
	there := func(p *probe) (b []byte, d digest.Digest) {
		b = p.bytes(100)
		p.elsewhere(func() { d = p.pushed(b) })
		return b, d
	}
	return section(Push, "Mounting a blob from another repository",
		must("push-mount", "`POST` with `mount` and `from` brings the blob over, 201, or opens an upload, 202", func(p *probe) {
			b, d := there(p)
			a := p.mount(d, p.other()).want(http.StatusCreated, http.StatusAccepted)
			if a.status == http.StatusAccepted {
				p.put(a.location(), d, b).want(http.StatusCreated)
			}
			p.get(p.blob(d)).want(http.StatusOK).same(b)
		}),
		must("push-mount-location", "after a mount `Location` is where the blob can be pulled", func(p *probe) {
			b, d := there(p)
			a := p.mount(d, p.other())
			if a.status == http.StatusAccepted {
				p.absent("an upload is opened instead")
			}
			p.get(a.want(http.StatusCreated).location()).want(http.StatusOK).same(b)
		}),
		may("push-mount-at-once", "no upload is needed", func(p *probe) {
			_, d := there(p)
			if p.mount(d, p.other()).want(http.StatusCreated, http.StatusAccepted).status == http.StatusAccepted {
				p.absent("an upload is opened instead")
			}
		}),
		may("push-mount-without-from", "without `from` the blob is looked for in other repositories", func(p *probe) {
			b, d := there(p)
			if p.mount(d, "").want(http.StatusCreated, http.StatusAccepted).status == http.StatusAccepted {
				p.absent("an upload is opened instead")
			}
			p.get(p.blob(d)).want(http.StatusOK).same(b)
		}),
		should("push-mount-unknown", "a blob that the other repository does not have, or a repository that does not exist, opens an upload: 202", func(p *probe) {
			_, d := there(p)
			p.mount(d, p.repo+"-none").want(http.StatusAccepted)
			b := p.bytes(100)
			unknown := digest.FromBytes(b)
			p.put(p.mount(unknown, p.other()).want(http.StatusAccepted).location(), unknown, b).want(http.StatusCreated)
			p.get(p.blob(unknown)).want(http.StatusOK).same(b)
		}),
		must("push-mount-nothing", "what is not there is not mounted", func(p *probe) {
			there(p)
			d := p.unknown()
			if a := p.mount(d, p.other()); a.status == http.StatusCreated {
				p.fail("%s: 201 for a blob that nobody pushed", a.what)
			}
			p.get(p.blob(d)).check(http.StatusNotFound)
		}),
	)
}
