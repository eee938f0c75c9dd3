// Package web shows people what is in the registry: repositories, tags, manifests and layers with their sizes, and a search.
// The pages are made here and need no script; who looks sees what he may pull.
package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/registryserver/access"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

//go:embed pages
var files embed.FS

// perPage is how many rows a page has.
const perPage = 100

// Pages shows the registry.
type Pages struct {
	Store  Store
	Finder Finder
	Guard  Guard
	// Note says something of a repository, e.g. whose copy it is; empty for nothing. May be nil.
	Note func(repository string) string
	Log  *slog.Logger

	pages map[string]*template.Template
	style []byte
}

// New reads the pages.
func New(p Pages) (*Pages, error) {
	p.pages = map[string]*template.Template{}
	for _, name := range []string{"home", "repository", "image", "refusal"} {
		t, err := template.New("frame.html").Funcs(functions).ParseFS(files, "pages/frame.html", "pages/"+name+".html")
		if err != nil {
			return nil, err
		}
		p.pages[name] = t
	}
	var err error
	p.style, err = files.ReadFile("pages/style.css")
	return &p, err
}

// functions are what the pages call.
var functions = template.FuncMap{
	"size": func(n int64) string {
		return units.CustomSize("%.3g %s", float64(n), 1000, []string{"B", "kB", "MB", "GB", "TB", "PB"})
	},
	"ago": func(t time.Time) string {
		if t.IsZero() || t.Unix() == 0 {
			return ""
		}
		return units.HumanDuration(time.Since(t)) + " ago"
	},
	"time":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
	"short": func(d digest.Digest) string { return short(d) },
	"repo":  func(name string) template.URL { return template.URL("/repo/" + name) }, //nolint:gosec // a checked name has no character with a meaning in URLs
	"image": func(name string, d digest.Digest) template.URL {
		return template.URL("/repo/" + name + "@" + d.String()) //nolint:gosec // as above
	},
}

func short(d digest.Digest) string {
	hex := d.Encoded()
	if len(hex) > 12 {
		hex = hex[:12]
	}
	return hex
}

// view is one page being made.
type view struct {
	*Pages
	w  http.ResponseWriter
	r  *http.Request
	id access.Identity
}

// frame is what all pages have.
type frame struct {
	Title string
	Query string
	User  string
	Login bool // somebody could log in
	Page  any
}

// ServeHTTP answers with a page.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if r.URL.Path == "/style.css" {
		h.Set("Content-Type", "text/css; charset=utf-8")
		h.Set("Cache-Control", "max-age=3600")
		_, _ = w.Write(p.style)
		return
	}
	h.Set("Cache-Control", "no-store")
	v := &view{Pages: p, w: w, r: r}
	if err := v.serve(); err != nil {
		v.refuse(err)
	}
}

func (v *view) serve() (err error) {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
		v.w.Header().Set("Allow", "GET, HEAD")
		return refusal.Unsupported.New("pages are only to be looked at")
	}
	if v.id, err = v.Guard.Identify(v.r); err != nil {
		return err
	}
	if n, ok := v.w.(interface{ SetUser(name string) }); ok {
		n.SetUser(v.id.Name)
	}
	path := v.r.URL.Path
	switch {
	case path == "/":
		return v.home()
	case path == "/login":
		if v.id.Name == "" && !v.Guard.Open() {
			return refusal.Unauthorized.New("log in to see more")
		}
		http.Redirect(v.w, v.r, "/", http.StatusSeeOther)
		return nil
	case strings.HasPrefix(path, "/repo/"):
		name, ref, found := strings.Cut(strings.TrimPrefix(path, "/repo/"), "@")
		if err := naming.Repository(name); err != nil {
			return err
		}
		if !v.id.May(name, access.Pull) {
			if v.id.Name == "" {
				return refusal.Unauthorized.New("one has to log in to see %s", name)
			}
			return refusal.Denied.New("%s may not see %s", v.id.Name, name)
		}
		if found {
			return v.image(name, ref)
		}
		return v.repository(name)
	}
	return refusal.NameUnknown.New("there is no such page")
}

// show makes a page.
func (v *view) show(page, title string, status int, data any) error {
	var b bytes.Buffer
	f := frame{Title: title, Query: v.r.URL.Query().Get("q"), User: v.id.Name, Login: v.id.Name == "" && !v.Guard.Open(), Page: data}
	if err := v.pages[page].Execute(&b, f); err != nil {
		return fmt.Errorf("making the page %s: %w", page, err)
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(b.Bytes())
	return nil
}

// refuse shows an error. A browser asks for a password when it is told that one is wanted.
func (v *view) refuse(err error) {
	e := refusal.Of(err)
	if e.Code.Status >= http.StatusInternalServerError {
		v.Log.Error("a page could not be made", "path", v.r.URL.Path, "error", err)
	}
	if e.Code.Status == http.StatusUnauthorized {
		v.w.Header().Set("WWW-Authenticate", `Basic realm="gantry registry", charset="UTF-8"`)
	}
	v.w.Header().Del("Content-Length")
	if err := v.show("refusal", "Not shown", e.Code.Status, e.Text); err != nil {
		http.Error(v.w, e.Text, e.Code.Status)
	}
}

// homePage is the list of repositories, and what a search found.
type homePage struct {
	Repositories []storage.Summary
	Tags         []foundTag
	Places       []storage.Place
	Next         string // link to more
}

type foundTag struct {
	Repository string
	storage.Tag
}

// digests are what is taken for a part of one: sha256:, or many hexadecimal digits.
var digests = regexp.MustCompile(`^((sha256|sha512):)?[0-9a-f]{6,128}$`)

func (v *view) home() error {
	q := strings.TrimSpace(v.r.URL.Query().Get("q"))
	if len(q) > 300 {
		return refusal.NameInvalid.New("what is looked for has more than 300 characters")
	}
	var page homePage
	name, tag, both := strings.Cut(q, ":")
	if digests.MatchString(q) {
		prefix := q
		if !strings.Contains(q, ":") {
			prefix = "sha256:" + q
		} else {
			both = false
		}
		var err error
		if page.Places, err = v.Finder.Find(prefix, perPage, v.id.Sees); err != nil {
			return err
		}
	}
	match := func(repo string) bool { return v.id.Sees(repo) && strings.Contains(repo, name) }
	list, more, err := v.Store.Summaries(v.r.URL.Query().Get("last"), perPage, match)
	if err != nil {
		return err
	}
	if len(list) == 0 && v.id.Name == "" && !v.Guard.Open() {
		return refusal.Unauthorized.New("log in to see the registry")
	}
	page.Repositories = list
	if more {
		page.Next = "/?" + url.Values{"q": {q}, "last": {list[len(list)-1].Name}}.Encode()
	}
	if both {
		if page.Tags, err = v.findTags(list, tag); err != nil {
			return err
		}
		page.Repositories = nil
	}
	title := "Repositories"
	if q != "" {
		title = "Search: " + q
	}
	return v.show("home", title, http.StatusOK, page)
}

// findTags looks for tags with a text in them.
func (v *view) findTags(repos []storage.Summary, text string) (found []foundTag, err error) {
	for _, r := range repos {
		tags, _, err := v.Store.Tags(r.Name, "", 10*perPage)
		if err != nil {
			return nil, err
		}
		for _, t := range tags {
			if strings.Contains(t.Name, text) && len(found) < perPage {
				found = append(found, foundTag{r.Name, t})
			}
		}
	}
	return found, nil
}
