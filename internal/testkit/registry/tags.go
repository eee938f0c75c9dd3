package registry

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// lexical is the order of tags: upper and lower case are alike.
func lexical(a, b string) int {
	return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
}

// serveTags lists at most n tags that come after last.
func (r *Registry) serveTags(a *answer, name string) {
	r.mu.Lock()
	repo := r.repos[name]
	tags := []string{}
	if repo != nil {
		for tag := range repo.tags {
			tags = append(tags, tag)
		}
	}
	r.mu.Unlock()
	if repo == nil {
		a.refuse(http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	slices.SortFunc(tags, lexical)
	q := a.req.URL.Query()
	if last := q.Get("last"); last != "" {
		at, found := slices.BinarySearchFunc(tags, last, lexical)
		if found {
			at++
		}
		tags = tags[at:]
	}
	if n, err := strconv.Atoi(q.Get("n")); err == nil && n >= 0 && n < len(tags) {
		tags = tags[:n]
		if n > 0 {
			next := url.Values{"n": {q.Get("n")}, "last": {tags[n-1]}}
			a.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", a.req.URL.Path, next.Encode()))
		}
	}
	a.Header().Set("Content-Type", "application/json")
	a.send(http.StatusOK, encode(map[string]any{"name": name, "tags": tags}))
}
