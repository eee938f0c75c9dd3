package image

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/cli/opts"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

type lsOptions struct {
	all, digests, noTrunc, quiet, tree bool
	format                             string
	filter                             opts.Filter
}

func buildLs(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &lsOptions{}
	f.BoolVarP(&o.all, "all", "a", false, "Show all images, also intermediate ones")
	f.BoolVar(&o.digests, "digests", false, "Show digests")
	f.VarP(&o.filter, "filter", "f", "Only what matches")
	f.StringVar(&o.format, "format", "", app.FormatHelp)
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show everything in full")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show IDs only")
	f.BoolVar(&o.tree, "tree", false, "Show the platforms of each image as a tree")
	return func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			o.filter.Add("reference", args[0])
		}
		return o.run(ctx, a)
	}
}

func (o *lsOptions) run(ctx context.Context, a *app.App) error {
	if o.tree {
		for _, f := range []struct {
			name string
			on   bool
		}{{"--quiet", o.quiet}, {"--no-trunc", o.noTrunc}, {"--digests", o.digests}, {"--format", o.format != ""}} {
			if f.on {
				return fmt.Errorf("%s is not yet supported with --tree", f.name)
			}
		}
	}
	c, err := a.Engine.Client()
	if err != nil {
		return err
	}
	f := o.format
	if f == "" && !o.quiet {
		f = a.Home.Config().ImagesFormat
	}
	if f == "" {
		f = format.TableKey
	}
	q := o.filter.Query(nil)
	if o.all {
		q.Set("all", "1")
	}
	if strings.Contains(f, ".Containers") || strings.Contains(f, ".SharedSize") {
		q.Set("shared-size", "1")
	}
	if o.tree {
		q.Set("manifests", "1")
	}
	var list []image.Summary
	if err := c.Get(ctx, "/images/json", q, &list); err != nil {
		return err
	}
	if o.tree {
		return printTree(a.Out, list)
	}
	table := format.Table{Format: f, Header: Header, Trunc: !o.noTrunc}
	switch {
	case f == format.TableKey && o.quiet:
		table.Format = "{{.ID}}"
	case f == format.TableKey && o.digests:
		table.Format = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	case f == format.TableKey:
		table.Format = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	case f == format.RawKey && o.quiet:
		table.Format = "image_id: {{.ID}}"
	case f == format.RawKey:
		table.Format = "repository: {{ .Repository }}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
	case format.IsTable(f) && o.digests && !strings.Contains(f, "{{.Digest}}"):
		table.Format += "\t{{.Digest}}"
	}
	return format.Write(a.Out, table, expand(list, !o.noTrunc, o.digests || strings.Contains(table.Format, "{{.Digest}}")))
}

// Header is the titles of the columns.
var Header = map[string]string{"ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT",
	"Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "SIZE", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE"}

// Row is one name of an image.
type Row struct {
	format.Row
	s                 *image.Summary
	repo, tag, digest string
	trunc             bool
}

// expand gives every name of every image a row of its own.
func expand(list []image.Summary, trunc, digests bool) []*Row {
	var out []*Row
	for i := range list {
		s := &list[i]
		tags, sums := map[string][]string{}, map[string][]string{}
		var repos []string
		add := func(repo string) {
			if tags[repo] == nil && sums[repo] == nil {
				repos = append(repos, repo)
			}
		}
		for _, t := range s.RepoTags {
			if r, err := ref.Parse(t); err == nil && t != "<none>:<none>" {
				add(r.FamiliarName())
				tags[r.FamiliarName()] = append(tags[r.FamiliarName()], r.Tag)
			}
		}
		for _, d := range s.RepoDigests {
			if r, err := ref.Parse(d); err == nil && d != "<none>@<none>" {
				add(r.FamiliarName())
				sums[r.FamiliarName()] = append(sums[r.FamiliarName()], r.Digest)
			}
		}
		before := len(out)
		for _, repo := range repos {
			out = append(out, rowsOf(s, repo, tags[repo], sums[repo], trunc, digests)...)
		}
		if len(out) == before {
			out = append(out, &Row{s: s, repo: "<none>", tag: "<none>", digest: "<none>", trunc: trunc})
		}
	}
	return out
}

func rowsOf(s *image.Summary, repo string, tags, sums []string, trunc, digests bool) []*Row {
	if !digests && len(tags) > 0 {
		sums = nil
	}
	if len(tags) == 0 {
		if !digests {
			sums = sums[:min(len(sums), 1)]
		}
		tags = []string{"<none>"}
	}
	if len(sums) == 0 {
		sums = []string{"<none>"}
	}
	var out []*Row
	for _, t := range tags {
		for _, d := range sums {
			out = append(out, &Row{s: s, repo: repo, tag: t, digest: d, trunc: trunc})
		}
	}
	return out
}

// ID is the image's id.
func (r *Row) ID() string {
	if r.trunc {
		return format.ShortID(r.s.ID)
	}
	return r.s.ID
}

// Repository is the name.
func (r *Row) Repository() string { return r.repo }

// Tag is the tag.
func (r *Row) Tag() string { return r.tag }

// Digest is the digest the name was pulled by.
func (r *Row) Digest() string { return r.digest }

// CreatedSince says how long ago it was made.
func (r *Row) CreatedSince() string {
	if r.s.Created <= 0 && time.Unix(r.s.Created, 0).IsZero() {
		return "N/A"
	}
	return units.HumanDuration(time.Now().UTC().Sub(time.Unix(r.s.Created, 0))) + " ago"
}

// CreatedAt is the time it was made.
func (r *Row) CreatedAt() string { return time.Unix(r.s.Created, 0).String() }

// Size is the size of all layers.
func (r *Row) Size() string { return units.HumanSizeWithPrecision(float64(r.s.Size), 3) }

// VirtualSize is Size, with one more figure.
func (r *Row) VirtualSize() string { return units.HumanSize(float64(r.s.Size)) }

// Containers is how many containers use it.
func (r *Row) Containers() string {
	if r.s.Containers == -1 {
		return "N/A"
	}
	return fmt.Sprint(r.s.Containers)
}

// SharedSize is what it has in common with others.
func (r *Row) SharedSize() string {
	if r.s.SharedSize == -1 {
		return "N/A"
	}
	return units.HumanSize(float64(r.s.SharedSize))
}

// UniqueSize is what only this image needs.
func (r *Row) UniqueSize() string {
	if r.s.SharedSize == -1 {
		return "N/A"
	}
	return units.HumanSize(float64(r.s.Size - r.s.SharedSize))
}

// Rows makes rows of images, for other verbs.
func Rows(list []image.Summary) []*Row { return expand(list, true, false) }
