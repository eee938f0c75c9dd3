// Package fromengine serves an engine's images to its neighbours, read-only. Nothing is asked of the engine but its API: what
// images there are, which ID a name has, and an image as an archive.
//
//	GET /v2/library/app/manifests/1 ──► ID of app:1 ── not here yet ──► archive ──► blobs and manifests in the store
//	                                                └─ here ──────────────────────► the store
//
// An image is taken over when its tag is asked for, and again when the tag means another ID; blobs are then the store's.
package fromengine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/singleflight"

	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/protocol"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// Source is a protocol.Source, and the list of repositories, of an engine.
type Source struct {
	protocol.Source // what is taken over already
	engine          Engine
	store           Store
	local           protocol.Lists
	log             *slog.Logger

	taking singleflight.Group
	mu     sync.Mutex
	taken  map[string]string // repository:tag → ID that was taken over
}

// New makes the source. local is the store as a Source and as Lists.
func New(e Engine, s Store, local protocol.Source, lists protocol.Lists, log *slog.Logger) *Source {
	return &Source{Source: local, engine: e, store: s, local: lists, log: log, taken: map[string]string{}}
}

// ReadOnly says why nothing can be pushed.
func (s *Source) ReadOnly(string) string { return "this registry serves an engine's images, read-only" }

// Rename gives the repository that a mirror's client means: an image of Docker Hub's has its path, another one its registry in front.
func (s *Source) Rename(repo, ns string) string {
	if ns == "" || ns == "docker.io" || ns == "registry-1.docker.io" || ns == "index.docker.io" {
		return repo
	}
	return domainPart(ns) + "/" + repo
}

// domainPart is a registry's host as a part of a repository's name, which has no colon.
func domainPart(host string) string { return strings.ReplaceAll(host, ":", "_") }

// repositoryOf is where an image's name is served.
func repositoryOf(name string) (repo, tag string, ok bool) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", "", false
	}
	tagged, isTagged := named.(reference.Tagged)
	if !isTagged {
		return "", "", false
	}
	repo = reference.Path(named)
	if d := reference.Domain(named); d != "docker.io" {
		repo = domainPart(d) + "/" + repo
	}
	return repo, tagged.Tag(), naming.Repository(repo) == nil
}

// names gives the engine's images by where they are served: repository → tag → name.
func (s *Source) names(ctx context.Context) (map[string]map[string]string, error) {
	list, err := s.engine.Names(ctx)
	if err != nil {
		return nil, refusal.Upstream.New("asking the engine: %w", err)
	}
	out := map[string]map[string]string{}
	for _, n := range list {
		if repo, tag, ok := repositoryOf(n); ok {
			if out[repo] == nil {
				out[repo] = map[string]string{}
			}
			out[repo][tag] = n
		}
	}
	return out, nil
}

// Manifest implements protocol.Source.
func (s *Source) Manifest(ctx context.Context, repo, ref string) (m storage.Stored, err error) {
	if naming.IsDigest(ref) {
		return s.Source.Manifest(ctx, repo, ref)
	}
	all, err := s.names(ctx)
	if err != nil {
		return m, err
	}
	name := all[repo][ref]
	if name == "" {
		_ = s.store.DeleteTag(repo, ref) // it is gone there, if it ever was
		return m, refusal.ManifestUnknown.New("the engine has no image %s:%s", repo, ref)
	}
	answer := s.taking.DoChan(repo+":"+ref, func() (any, error) {
		return nil, s.take(context.WithoutCancel(ctx), repo, ref, name)
	})
	select {
	case a := <-answer:
		if a.Err != nil {
			return m, a.Err
		}
	case <-ctx.Done():
		return m, context.Cause(ctx)
	}
	return s.Source.Manifest(ctx, repo, ref)
}

// take takes an image over, unless that was done.
func (s *Source) take(ctx context.Context, repo, tag, name string) error {
	id, err := s.engine.ID(ctx, name)
	if err != nil {
		if errdefs.IsNotFound(err) {
			return refusal.ManifestUnknown.New("the engine has no image %s: %w", name, err)
		}
		return refusal.Upstream.New("asking the engine for %s: %w", name, err)
	}
	key := repo + ":" + tag
	s.mu.Lock()
	known := s.taken[key]
	s.mu.Unlock()
	if m, err := s.store.Manifest(repo, tag); err == nil && (known == id || m.Digest.String() == id) {
		return nil
	}
	archive, err := s.engine.Export(ctx, name)
	if err != nil {
		return refusal.Upstream.New("exporting %s from the engine: %w", name, err)
	}
	defer archive.Close()
	d, err := s.read(repo, archive)
	if err != nil {
		return refusal.Upstream.New("reading the archive of %s from the engine: %w", name, err)
	}
	if err := s.put(repo, tag, d); err != nil {
		return err
	}
	s.log.Info("an image was taken over from the engine", "image", name, "digest", d.Digest)
	s.mu.Lock()
	s.taken[key] = id
	s.mu.Unlock()
	return nil
}

// Tags implements protocol.Source: what the engine has.
func (s *Source) Tags(ctx context.Context, repo, last string, n int) (tags []storage.Tag, more bool, err error) {
	all, err := s.names(ctx)
	if err != nil {
		return nil, false, err
	}
	if all[repo] == nil {
		return nil, false, refusal.NameUnknown.New("the engine has no image %s", repo)
	}
	var names []string
	for tag := range all[repo] {
		names = append(names, tag)
	}
	slices.SortFunc(names, func(a, b string) int {
		return strings.Compare(strings.ToLower(a)+"\x00"+a, strings.ToLower(b)+"\x00"+b)
	})
	for _, t := range names {
		if last != "" && strings.ToLower(t)+"\x00"+t <= strings.ToLower(last)+"\x00"+last {
			continue
		}
		if len(tags) == n {
			return tags, true, nil
		}
		tags = append(tags, storage.Tag{Name: t})
	}
	return tags, false, nil
}

// Repositories implements protocol.Lists: what the engine has.
func (s *Source) Repositories(last string, n int, may func(string) bool) (out []string, more bool, err error) {
	all, err := s.names(context.Background())
	if err != nil {
		return nil, false, err
	}
	var repos []string
	for repo := range all {
		if repo > last && may(repo) {
			repos = append(repos, repo)
		}
	}
	slices.Sort(repos)
	if len(repos) > n {
		return repos[:n], true, nil
	}
	return repos, false, nil
}

// Referrers implements protocol.Lists: what was taken over.
func (s *Source) Referrers(repo string, d digest.Digest, artifactType string, last digest.Digest, n int) ([]ocispec.Descriptor, bool, error) {
	return s.local.Referrers(repo, d, artifactType, last, n)
}

// content reads a small content that was taken over.
func (s *Source) content(repo string, d digest.Digest, most int64) ([]byte, error) {
	f, b, err := s.store.Open(repo, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if b.Size > most {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", d, b.Size, most)
	}
	return io.ReadAll(f)
}
