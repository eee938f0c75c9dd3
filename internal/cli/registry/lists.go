package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
)

const insecureHelp = "Take any certificate, or plain HTTP"

func buildRepoList(a *app.App, f *pflag.FlagSet) app.RunFunc {
	insecure := f.Bool("insecure", false, insecureHelp)
	tmpl := f.String("format", "", app.FormatHelp)
	return func(ctx context.Context, args []string) error {
		p, err := parsePlace(args[0])
		if err != nil {
			return err
		}
		if p.repo != "" {
			return fmt.Errorf("%q names a repository: a registry is needed, as in %s (a repository's tags are listed by 'registry tag ls')", args[0], p.host)
		}
		r, err := dial(ctx, a, p, *insecure)
		if err != nil {
			return err
		}
		var rows []*RepoRow
		var page struct{ Repositories []string }
		err = r.pages(ctx, "/v2/_catalog", "registry:catalog:*", &page, func() int {
			for _, n := range page.Repositories {
				rows = append(rows, &RepoRow{name: n, host: p.host})
			}
			n := len(page.Repositories)
			page.Repositories = nil
			return n
		})
		if err != nil {
			return err
		}
		if *tmpl == "" || *tmpl == format.TableKey {
			*tmpl = "table {{.Name}}"
		}
		return format.Write(a.Out, format.Table{Format: *tmpl, Header: map[string]string{"Name": "REPOSITORY", "Image": "IMAGE"}}, rows)
	}
}

// RepoRow is one repository of a registry.
type RepoRow struct {
	format.Row
	name, host string
}

// Name is the repository's name.
func (r *RepoRow) Name() string { return printable(r.name) }

// Image is what one pulls: the name with its host.
func (r *RepoRow) Image() string { return r.host + "/" + printable(r.name) }

func buildTagList(a *app.App, f *pflag.FlagSet) app.RunFunc {
	insecure := f.Bool("insecure", false, insecureHelp)
	quiet := f.BoolP("quiet", "q", false, "Only show tags")
	tmpl := f.String("format", "", app.FormatHelp)
	return func(ctx context.Context, args []string) error {
		p, err := parsePlace(args[0])
		if err != nil {
			return err
		}
		if p.repo == "" || p.reference != "" {
			return fmt.Errorf("%q: a repository without a tag is needed, as in registry.example.com/team/app", args[0])
		}
		r, err := dial(ctx, a, p, *insecure)
		if err != nil {
			return err
		}
		scope := "repository:" + p.repo + ":pull"
		var rows []*TagRow
		var page struct{ Tags []string }
		err = r.pages(ctx, "/v2/"+p.repo+"/tags/list", scope, &page, func() int {
			for _, n := range page.Tags {
				rows = append(rows, &TagRow{tag: n})
			}
			n := len(page.Tags)
			page.Tags = nil
			return n
		})
		if err != nil {
			return err
		}
		if *quiet {
			for _, row := range rows {
				fmt.Fprintln(a.Out, row.Tag())
			}
			return nil
		}
		if err := r.look(ctx, p.repo, scope, rows); err != nil {
			return err
		}
		if *tmpl == "" || *tmpl == format.TableKey {
			*tmpl = "table {{.Tag}}\t{{.Digest}}\t{{.Type}}\t{{.Size}}"
		}
		return format.Write(a.Out, format.Table{Format: *tmpl, Header: map[string]string{"Tag": "TAG", "Digest": "DIGEST", "Type": "TYPE", "Size": "SIZE"}}, rows)
	}
}

// TagRow is one tag of a repository.
type TagRow struct {
	format.Row
	tag, digest string
	platforms   int // of an index; -1 for a manifest
	size        int64
}

// Tag is its name.
func (r *TagRow) Tag() string { return printable(r.tag) }

// Digest is what it names.
func (r *TagRow) Digest() string { return printable(r.digest) }

// Type is manifest, or index with the number of manifests in it.
func (r *TagRow) Type() string {
	if r.platforms >= 0 {
		return fmt.Sprintf("index of %d", r.platforms)
	}
	return "manifest"
}

// Size is what configuration and layers take, compressed; nothing for an index.
func (r *TagRow) Size() string {
	if r.platforms >= 0 {
		return ""
	}
	return units.HumanSizeWithPrecision(float64(r.size), 3)
}

// lookers is how many manifests are asked for at a time.
const lookers = 8

// look asks for the manifests of tags.
func (r *remote) look(ctx context.Context, repo, scope string, rows []*TagRow) error {
	if len(rows) == 0 {
		return nil
	}
	errs := make([]error, len(rows))
	errs[0] = rows[0].look(ctx, r, repo, scope) // alone: it may have to fetch the token
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(lookers, len(rows)) {
		wg.Go(func() {
			own := *r // each has its own token from here on
			for i := range next {
				errs[i] = rows[i].look(ctx, &own, repo, scope)
			}
		})
	}
	for i := 1; i < len(rows); i++ {
		next <- i
	}
	close(next)
	wg.Wait()
	return errors.Join(errs...)
}

func (r *TagRow) look(ctx context.Context, reg *remote, repo, scope string) error {
	resp, err := reg.send(ctx, http.MethodGet, "/v2/"+repo+"/manifests/"+r.tag, nil, scope)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	r.digest = resp.Header.Get("Docker-Content-Digest")
	var m struct {
		Config    struct{ Size int64 }
		Layers    []struct{ Size int64 }
		Manifests []json.RawMessage
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&m); err != nil {
		return fmt.Errorf("the manifest of %s:%s cannot be read: %w", repo, r.tag, err)
	}
	r.platforms = -1
	if m.Manifests != nil {
		r.platforms = len(m.Manifests)
	}
	r.size = m.Config.Size
	for _, l := range m.Layers {
		r.size += l.Size
	}
	return nil
}

func buildRemove(a *app.App, f *pflag.FlagSet) app.RunFunc {
	insecure := f.Bool("insecure", false, insecureHelp)
	return func(ctx context.Context, args []string) error {
		var errs []error
		for _, arg := range args {
			if err := remove(ctx, a, arg, *insecure); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", arg, err))
				continue
			}
			fmt.Fprintln(a.Out, arg)
		}
		return errors.Join(errs...)
	}
}

// remove removes a tag, or a manifest with all its tags.
func remove(ctx context.Context, a *app.App, arg string, insecure bool) error {
	p, err := parsePlace(arg)
	if err != nil {
		return err
	}
	if p.repo == "" || len(p.reference) < 2 {
		return errors.New("a tag or a digest is needed: a repository goes when its last manifest does")
	}
	r, err := dial(ctx, a, p, insecure)
	if err != nil {
		return err
	}
	resp, err := r.send(ctx, http.MethodDelete, "/v2/"+p.repo+"/manifests/"+p.reference[1:], nil, "repository:"+p.repo+":delete")
	var refused *refusal
	if errors.As(err, &refused) && strings.HasPrefix(p.reference, ":") && (refused.status == http.StatusMethodNotAllowed || refused.status == http.StatusBadRequest) {
		return fmt.Errorf("%w; this registry cannot delete a tag alone: its manifest goes with all its tags by REPOSITORY@DIGEST, which 'registry tag ls' shows", err)
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
