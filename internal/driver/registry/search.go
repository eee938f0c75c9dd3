package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/moby/moby/api/types/registry"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// indexHost is where Docker Hub is searched.
const indexHost = "index.docker.io"

// maxSearch bounds an answer to a search, in bytes; maxCatalogPages how many pages of a catalog are looked through.
const (
	maxSearch       = 4 << 20
	maxCatalogPages = 50
)

// Search finds repositories. The term may begin with a registry's host; without one Docker Hub is searched. A
// registry without a search of its own is asked for its catalog, of which the names with the term in them are given.
func (c *Client) Search(ctx context.Context, term string, limit int, auth registry.AuthConfig) ([]registry.SearchResult, error) {
	if term == "" {
		return nil, classed.Invalid("there is nothing to search for: the term is empty")
	}
	if strings.Contains(term, "://") {
		return nil, classed.Invalid("invalid term %q: it begins with a host, without http:// or https://", term)
	}
	cfg := c.cfg.Load()
	host := cfg.host(Hub)
	if first, rest, ok := strings.Cut(term, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		host, term = first, rest
	}
	hosts, err := cfg.configured(ctx, host, "", auth)
	if err != nil {
		return nil, err
	}
	r := &Repository{hosts: hosts, familiar: host, exchange: &exchange{userAgent: cfg.UserAgent, attempts: cfg.Attempts, log: c.log, sleep: c.sleep}}
	defer r.Close()
	if host == Hub {
		hub := *r.registry()
		hub.Host = indexHost
		return r.search(ctx, &hub, term, limit)
	}
	list, err := r.search(ctx, r.registry(), term, limit)
	var f *refusal
	if err == nil || !errors.As(err, &f) || f.status != http.StatusNotFound {
		return list, err
	}
	return r.catalog(ctx, host, term, limit)
}

// search asks by the first version of the registry's protocol, the only one with a search.
func (r *Repository) search(ctx context.Context, h *docker.RegistryHost, term string, limit int) ([]registry.SearchResult, error) {
	v1 := *h
	v1.Path = ""
	resp, err := r.do(ctx, &v1, request{method: http.MethodGet, path: "/v1/search", query: url.Values{"q": {strings.TrimPrefix(term, "library/")}, "n": {strconv.Itoa(limit)}}})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		f := refused(resp)
		return nil, classed.Errorf(f.class(), "searching %s: %w", h.Host, f)
	}
	defer resp.Body.Close()
	var found registry.SearchResults
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxSearch)).Decode(&found); err != nil {
		return nil, classed.Invalid("the answer of %s to a search is not the JSON it should be: %v", h.Host, err)
	}
	return found.Results[:min(limit, len(found.Results))], nil
}

// catalog looks through the names of all repositories.
func (r *Repository) catalog(ctx context.Context, host, term string, limit int) ([]registry.SearchResult, error) {
	ctx = docker.WithScope(ctx, "registry:catalog:*")
	q := request{method: http.MethodGet, path: "/_catalog", query: url.Values{"n": {"1000"}}}
	list := []registry.SearchResult{}
	for range maxCatalogPages {
		resp, err := r.do(ctx, r.registry(), q)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			f := refused(resp)
			return nil, classed.Errorf(f.class(), "searching %s: it has no search, and its catalog is not to be had: %w", host, f)
		}
		var page struct{ Repositories []string }
		err = json.NewDecoder(io.LimitReader(resp.Body, maxSearch)).Decode(&page)
		_ = resp.Body.Close()
		if err != nil {
			return nil, classed.Invalid("the catalog of %s is not the JSON it should be: %v", host, err)
		}
		for _, name := range page.Repositories {
			if strings.Contains(name, term) {
				list = append(list, registry.SearchResult{Name: host + "/" + clean(name)})
			}
		}
		next := nextPage(resp)
		if next == nil || len(list) >= limit {
			break
		}
		q.location = next
	}
	slices.SortFunc(list, func(a, b registry.SearchResult) int { return strings.Compare(a.Name, b.Name) })
	return list[:min(limit, len(list))], nil
}
