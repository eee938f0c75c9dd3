package registry

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
)

// Request is one that the registry got, in the order of arrival.
type Request struct {
	Method string
	Path   string
	Query  url.Values
	Form   url.Values // of a request for a token
	Header http.Header
	Status int   // of the answer; 0 if there was none
	Offset int64 // where in the blob or manifest the bytes begin
	Bytes  int64 // that really went out, or came in with an upload
}

func (r *Registry) note(req *http.Request) *Request {
	e := &Request{Method: req.Method, Path: req.URL.Path, Query: req.URL.Query(), Header: maps.Clone(req.Header)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, e)
	return e
}

// Requests gives the requests so far of a method ("" is each) whose path a regular expression is found in.
func (r *Registry) Requests(method, path string) (out []Request) {
	re := regexp.MustCompile(path)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.log {
		if (method == "" || method == e.Method) && re.MatchString(e.Path) {
			out = append(out, *e)
		}
	}
	return out
}

// Twice gives the first byte that two requests transferred both; -1 if there is none.
// The requests should be those for one blob.
func Twice(requests []Request) int64 {
	sorted := slices.SortedFunc(slices.Values(requests), func(a, b Request) int { return cmp.Compare(a.Offset, b.Offset) })
	end := int64(0)
	for _, e := range sorted {
		if e.Bytes > 0 && e.Offset < end {
			return e.Offset
		}
		end = max(end, e.Offset+e.Bytes)
	}
	return -1
}
