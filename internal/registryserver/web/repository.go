package web

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/registryserver/manifest"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// repositoryPage is the list of a repository's tags.
type repositoryPage struct {
	Name string
	Host string
	Note string
	Tags []tagRow
	Next string
}

type tagRow struct {
	storage.Tag
	What string
	Size int64
}

func (v *view) repository(name string) error {
	q := v.r.URL.Query()
	tags, more, err := v.Store.Tags(name, q.Get("last"), perPage)
	if err != nil {
		return err
	}
	page := repositoryPage{Name: name, Host: v.r.Host}
	if v.Note != nil {
		page.Note = v.Note(name)
	}
	for _, t := range tags {
		row := tagRow{Tag: t}
		if d, err := v.Store.Detail(name, t.Digest); err == nil {
			row.What = what(&d.Manifest)
			row.Size = v.sizeOf(name, &d)
		}
		page.Tags = append(page.Tags, row)
	}
	if more {
		page.Next = v.r.URL.EscapedPath() + "?" + url.Values{"last": {tags[len(tags)-1].Name}}.Encode()
	}
	return v.show("repository", name, http.StatusOK, page)
}

// what tells in few words what a manifest is.
func what(m *manifest.Manifest) string {
	if !manifest.Index(m.MediaType) {
		if m.ArtifactType != "" && m.ArtifactType != ocispec.MediaTypeImageConfig && m.ArtifactType != "application/vnd.docker.container.image.v1+json" {
			return m.ArtifactType
		}
		return "image"
	}
	var names []string
	for _, r := range m.References {
		if p := platform(r.Platform); p != "" && p != "unknown/unknown" {
			names = append(names, p)
		}
	}
	if len(names) == 0 || len(names) > 4 {
		return "index"
	}
	return strings.Join(names, ", ")
}

func platform(p *ocispec.Platform) string {
	if p == nil {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// sizeOf adds up what a manifest refers to, each content once; of an index all that is here.
func (v *view) sizeOf(repo string, d *storage.Detail) int64 {
	seen := map[digest.Digest]bool{}
	n := d.Size
	for _, r := range d.References {
		if seen[r.Digest] {
			continue
		}
		seen[r.Digest] = true
		if r.Kind != manifest.Child {
			n += r.Size
			continue
		}
		child, err := v.Store.Detail(repo, r.Digest)
		if err != nil {
			continue
		}
		n += child.Size
		for _, c := range child.References {
			if !seen[c.Digest] {
				seen[c.Digest] = true
				n += c.Size
			}
		}
	}
	return n
}

// imagePage is one manifest.
type imagePage struct {
	Repository string
	Host       string
	storage.Detail
	What      string
	Total     int64
	Platform  string
	Created   time.Time
	Layers    []layerRow
	Children  []childRow
	Referrers []ocispec.Descriptor
}

type layerRow struct {
	manifest.Reference
	By    string // what made it
	Share int    // of all layers, in percent
}

type childRow struct {
	manifest.Reference
	Platform string
	Total    int64
	Here     bool
}

func (v *view) image(repo, ref string) error {
	d, err := naming.Digest(ref)
	if err != nil {
		return err
	}
	detail, err := v.Store.Detail(repo, d)
	if err != nil {
		return err
	}
	page := imagePage{Repository: repo, Host: v.r.Host, Detail: detail, What: what(&detail.Manifest), Total: v.sizeOf(repo, &detail)}
	if page.Referrers, _, err = v.Store.Referrers(repo, d, "", "", perPage); err != nil {
		return err
	}
	var layers int64
	for _, r := range detail.References {
		switch r.Kind {
		case manifest.Layer:
			layers += r.Size
			page.Layers = append(page.Layers, layerRow{Reference: r})
		case manifest.Child:
			row := childRow{Reference: r, Platform: platform(r.Platform)}
			if child, err := v.Store.Detail(repo, r.Digest); err == nil {
				row.Total, row.Here = v.sizeOf(repo, &child), true
			}
			page.Children = append(page.Children, row)
		case manifest.Config:
			v.configuration(repo, r, &page)
		}
	}
	for i := range page.Layers {
		if layers > 0 {
			page.Layers[i].Share = int(page.Layers[i].Size * 100 / layers)
		}
	}
	v.explain(repo, &page)
	return v.show("image", repo+"@"+short(d), http.StatusOK, page)
}

// maxConfig bounds what is read of a configuration, in bytes.
const maxConfig = 1 << 20

// read reads an image's configuration, if that is what the blob is.
func (v *view) read(repo string, r manifest.Reference) (c ocispec.Image, ok bool) {
	if r.Size > maxConfig || !strings.HasSuffix(r.MediaType, "json") {
		return c, false
	}
	f, _, err := v.Store.Open(repo, r.Digest)
	if err != nil {
		return c, false
	}
	defer f.Close()
	return c, json.NewDecoder(io.LimitReader(f, maxConfig)).Decode(&c) == nil
}

func (v *view) configuration(repo string, r manifest.Reference, page *imagePage) {
	c, ok := v.read(repo, r)
	if !ok || c.OS == "" {
		return
	}
	page.Platform = platform(&c.Platform)
	if c.Created != nil {
		page.Created = *c.Created
	}
}

// explain says of each layer what made it, where the configuration's history tells.
func (v *view) explain(repo string, page *imagePage) {
	for _, r := range page.References {
		if r.Kind != manifest.Config {
			continue
		}
		c, ok := v.read(repo, r)
		if !ok {
			return
		}
		i := 0
		for _, h := range c.History {
			if h.EmptyLayer || i >= len(page.Layers) {
				continue
			}
			by := h.CreatedBy
			if len(by) > 400 {
				by = strings.ToValidUTF8(by[:400], "") + "…"
			}
			page.Layers[i].By = by
			i++
		}
	}
}
