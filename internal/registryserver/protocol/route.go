package protocol

import "strings"

// Route is what a path of the protocol means.
type Route string

// The routes.
const (
	Base      Route = "base"
	Catalog   Route = "catalog"
	Blob      Route = "blob"
	Begin     Route = "uploads" // where uploads begin
	Upload    Route = "upload"  // one that has begun
	Manifest  Route = "manifest"
	Tags      Route = "tags"
	Referrers Route = "referrers"
	None      Route = ""
)

// call is a path, taken apart.
type call struct {
	route     Route
	repo      string
	reference string // digest, tag or upload
}

// RouteOf tells what a path means and which repository it is about, for logs and counters.
func RouteOf(path string) (Route, string) {
	c := parse(path)
	return c.route, c.repo
}

// parse takes a path apart from its end: a repository's name may have any words in it.
func parse(path string) call {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		if path == "/v2" {
			return call{route: Base}
		}
		return call{}
	}
	switch rest {
	case "":
		return call{route: Base}
	case "_catalog":
		return call{route: Catalog}
	}
	for _, end := range []string{"/blobs/uploads/", "/blobs/uploads"} {
		if repo, ok := strings.CutSuffix(rest, end); ok {
			return call{route: Begin, repo: repo}
		}
	}
	if repo, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return call{route: Tags, repo: repo}
	}
	at := strings.LastIndexByte(rest, '/')
	if at < 0 {
		return call{}
	}
	rest, last := rest[:at], rest[at+1:]
	for _, c := range []struct {
		end   string
		route Route
	}{{"/blobs/uploads", Upload}, {"/blobs", Blob}, {"/manifests", Manifest}, {"/referrers", Referrers}} {
		if repo, ok := strings.CutSuffix(rest, c.end); ok {
			return call{c.route, repo, last}
		}
	}
	return call{}
}
