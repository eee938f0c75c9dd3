package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// probe is a case under way: a client of the registry that takes note of what is wrong.
type probe struct {
	ctx    context.Context
	target Target
	repo   string // the case's own repository; it does not exist at first
	made   int    // things made at random so far

	problems []string
	absence  string
}

// answer is what the registry said to one request.
type answer struct {
	p      *probe
	what   string // the request, without what is different each time: "GET /v2/<name>/blobs/<digest>"
	url    *url.URL
	status int
	header http.Header
	body   []byte
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// exchange sends one request. The header is given as names and values in turn. It may be called from several goroutines.
func (p *probe) exchange(method, to string, body io.Reader, length int64, header ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(p.ctx, method, to, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = length
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := p.target.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return &answer{p: p, what: p.shape(method, req.URL), url: req.URL, status: resp.StatusCode, header: resp.Header, body: b}, nil
}

// send sends a request; a connection that breaks ends the case.
func (p *probe) send(method, to string, body []byte, header ...string) *answer {
	a, err := p.exchange(method, to, bytes.NewReader(body), int64(len(body)), header...)
	if err != nil {
		u, _ := url.Parse(to)
		p.stop("%s: %s", p.shape(method, u), reason(err))
	}
	return a
}

func (p *probe) get(to string, header ...string) *answer {
	return p.send(http.MethodGet, to, nil, header...)
}
func (p *probe) head(to string, header ...string) *answer {
	return p.send(http.MethodHead, to, nil, header...)
}

// reason tells a broken connection without its addresses.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer"
	}
	var u *url.Error
	if errors.As(err, &u) {
		return "the connection broke"
	}
	return err.Error()
}

var (
	sessionPart = regexp.MustCompile(`/blobs/uploads/[^/?]+`)
	digestPart  = regexp.MustCompile(`(sha256|sha512)(:|%3A)[0-9a-f]+`)
	namePart    = regexp.MustCompile(`^/v2/.+?/(blobs|manifests|tags|referrers)/`)
)

// shape is a request as the specification writes it.
func (p *probe) shape(method string, u *url.URL) string {
	if u == nil {
		return method
	}
	s := namePart.ReplaceAllString(u.Path, "/v2/<name>/$1/")
	s = sessionPart.ReplaceAllString(s, "/blobs/uploads/<session>")
	s = digestPart.ReplaceAllString(s, "<digest>")
	for _, k := range []string{"digest", "mount", "from", "n", "last", "artifactType"} {
		if !u.Query().Has(k) {
			continue
		}
		sep := "&"
		if !strings.Contains(s, "?") {
			sep = "?"
		}
		v := map[string]string{"digest": "<digest>", "mount": "<digest>", "from": "<other>", "artifactType": "<type>"}[k]
		if v == "" {
			v = u.Query().Get(k)
		}
		s += sep + k + "=" + v
	}
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return method + " " + s
}

// is tells whether the status is one of these.
func (a *answer) is(status ...int) bool { return slices.Contains(status, a.status) }

// want notes a status that is none of these; check is false then.
func (a *answer) check(status ...int) bool {
	if a.is(status...) {
		return true
	}
	var list []string
	for _, s := range status {
		list = append(list, fmt.Sprint(s))
	}
	a.p.fail("%s: %d, not %s", a.what, a.status, strings.Join(list, " or "))
	return false
}

// want ends the case unless the status is one of these.
func (a *answer) want(status ...int) *answer {
	if !a.check(status...) {
		panic(ended{})
	}
	return a
}

// refused wants a refusal: the client's fault, and not a failure of the server.
func (a *answer) refused() bool {
	if a.status >= 400 && a.status < 500 {
		return true
	}
	a.p.fail("%s: %d, not a refusal", a.what, a.status)
	return false
}

// has ends the case unless a field is in the header, and gives it.
func (a *answer) has(field string) string {
	v := a.header.Get(field)
	if v == "" {
		a.p.stop("%s: no %s in the answer", a.what, field)
	}
	return v
}

// location is where the answer sends the client on: an absolute URL, or one relative to the request's.
func (a *answer) location() string {
	to, err := a.url.Parse(a.has("Location"))
	if err != nil {
		a.p.stop("%s: the Location is no URL", a.what)
	}
	return to.String()
}

// codes are the codes of an error's body. The case ends when it is not JSON, or not of the form that the specification has.
func (a *answer) codes() (out []string) {
	var body struct {
		Errors []struct {
			Code    *string
			Message any
		}
	}
	if json.Unmarshal(a.body, &body) != nil || len(body.Errors) == 0 {
		a.p.stop(`%s: the body of %d is not {"errors": [{"code": …}]}`, a.what, a.status)
	}
	for _, e := range body.Errors {
		if _, isText := e.Message.(string); e.Code == nil || e.Message != nil && !isText {
			a.p.stop("%s: an error in the body of %d has no code, or a message that is no text", a.what, a.status)
		}
		out = append(out, *e.Code)
	}
	return out
}

// coded wants a code in an error's body. A HEAD has none.
func (a *answer) coded(want ...string) {
	codes := a.codes()
	for _, w := range want {
		if slices.Contains(codes, w) {
			return
		}
	}
	a.p.fail("%s: the code is %s, not %s", a.what, strings.Join(codes, ", "), strings.Join(want, " or "))
}

// decode reads a JSON body.
func (a *answer) decode(to any) {
	if err := json.Unmarshal(a.body, to); err != nil {
		a.p.stop("%s: the body is not the JSON that it should be", a.what)
	}
}

// same wants the body to be these bytes.
func (a *answer) same(b []byte) {
	if !bytes.Equal(a.body, b) {
		a.p.fail("%s: %d bytes that are not the %d that were pushed", a.what, len(a.body), len(b))
	}
}

func (p *probe) base() string                     { return p.target.URL + "/v2/" }
func (p *probe) in(repo string) string            { return p.base() + repo }
func (p *probe) blob(d digest.Digest) string      { return p.in(p.repo) + "/blobs/" + d.String() }
func (p *probe) manifest(ref string) string       { return p.in(p.repo) + "/manifests/" + ref }
func (p *probe) uploads() string                  { return p.in(p.repo) + "/blobs/uploads/" }
func (p *probe) referrers(d digest.Digest) string { return p.in(p.repo) + "/referrers/" + d.String() }
func (p *probe) tags(query string) string         { return p.in(p.repo) + "/tags/list" + query }
func (p *probe) other() string                    { return p.repo + "-other" }

// with adds a parameter to a location, whose own ones stay.
func (p *probe) with(location, key, value string) string {
	u, err := url.Parse(location)
	if err != nil {
		p.stop("the Location is no URL")
	}
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String()
}
