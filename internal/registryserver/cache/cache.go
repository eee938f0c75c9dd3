// Package cache serves repositories that are other registries': what is asked for is fetched from there, given to who asks
// while it comes, and kept.
//
//	docker.io/library/busybox ──► prefix docker.io ──► Upstream, repository library/busybox
//
// A digest that is here is served without asking. A tag is asked for again once it is older than Fresh; while its registry does
// not answer the old one is served. What was asked for longest ago goes first when the cache is full.
package cache

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/singleflight"

	"github.com/gantry-engine/gantry/internal/registryserver/manifest"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/protocol"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// Registry is another registry whose images are served.
type Registry struct {
	Prefix   string // of its repositories' names here
	Host     string // how engines call it
	Upstream Upstream
}

// Options say what is cached and how.
type Options struct {
	Registries []Registry
	Default    string        // prefix that a name without one belongs to; empty for none
	Fresh      time.Duration // how long a tag is served without asking
	Size       int64         // bytes; 0 for no bound
	Content    Content
	Records    Records
	Space      Space
	Counter    Counter
	Local      protocol.Source // what is not another registry's
	Log        *slog.Logger
}

// Cache is a Source that asks other registries.
type Cache struct {
	Options
	ctx    context.Context // of what goes on without a client
	stop   context.CancelFunc
	behind sync.WaitGroup
	asking singleflight.Group

	mu      sync.Mutex
	checked map[string]time.Time // repository:tag → when its registry said so
	used    map[string]time.Time // repository@digest → when its age was written down
	fills   map[string]*fill     // repository@digest → on its way
}

// How long a question to another registry may take, and how often the age of what is asked for is written down.
const (
	patience = 2 * time.Minute
	agePause = 12 * time.Hour
	maxNotes = 100_000 // entries of the tables in memory
)

// New makes a cache. It has to be closed.
func New(o Options) *Cache {
	ctx, stop := context.WithCancel(context.Background())
	return &Cache{Options: o, ctx: ctx, stop: stop, checked: map[string]time.Time{}, used: map[string]time.Time{}, fills: map[string]*fill{}}
}

// Close ends what is on its way.
func (c *Cache) Close() {
	c.stop()
	c.behind.Wait()
}

// of finds the registry that a repository is of, and its name there.
func (c *Cache) of(repo string) (*Registry, string) {
	for i := range c.Registries {
		if rest, ok := strings.CutPrefix(repo, c.Registries[i].Prefix+"/"); ok {
			return &c.Registries[i], rest
		}
	}
	return nil, ""
}

// Rename gives the repository that a client means who takes this registry for a mirror: ns is the registry that it is to
// stand for, as containerd says it. Empty means that it does not.
func (c *Cache) Rename(repo, ns string) string {
	if ns != "" {
		for _, r := range c.Registries {
			if r.Host == ns || r.Host == "docker.io" && (ns == "registry-1.docker.io" || ns == "index.docker.io") {
				return r.Prefix + "/" + repo
			}
		}
		return ""
	}
	if r, _ := c.of(repo); r == nil && c.Default != "" && !c.Records.Has(repo) {
		return c.Default + "/" + repo
	}
	return repo
}

// ReadOnly says why nothing can be pushed to a repository.
func (c *Cache) ReadOnly(repo string) string {
	if r, name := c.of(repo); r != nil {
		return fmt.Sprintf("it is a copy of %s/%s: push there", r.Host, name)
	}
	return ""
}

// Manifest implements protocol.Source.
func (c *Cache) Manifest(ctx context.Context, repo, reference string) (storage.Stored, error) {
	r, name := c.of(repo)
	if r == nil {
		return c.Local.Manifest(ctx, repo, reference)
	}
	here, missing := c.Content.Manifest(repo, reference)
	if missing == nil && (naming.IsDigest(reference) || c.fresh(repo, reference)) {
		c.hit("manifest", repo, here.Digest)
		return here, nil
	}
	answer := c.asking.DoChan(repo+" "+reference, func() (any, error) {
		ctx, cancel := context.WithTimeout(c.ctx, patience)
		defer cancel()
		return c.ask(ctx, r, repo, name, reference)
	})
	select {
	case a := <-answer:
		if a.Err == nil {
			return a.Val.(storage.Stored), nil
		}
		if missing == nil && !errdefs.IsNotFound(a.Err) {
			c.Log.Warn("a registry does not answer; what was here is served", "registry", r.Host, "repository", repo, "reference", reference, "error", a.Err)
			c.Counter.Cache("manifest", "stale")
			return here, nil
		}
		c.Counter.Cache("manifest", "failed")
		return storage.Stored{}, refuse(r, a.Err, refusal.ManifestUnknown)
	case <-ctx.Done():
		return storage.Stored{}, context.Cause(ctx)
	}
}

// ask finds out what a registry has, and keeps it.
func (c *Cache) ask(ctx context.Context, r *Registry, repo, name, reference string) (m storage.Stored, err error) {
	d, err := r.Upstream.Resolve(ctx, name, reference)
	if err != nil {
		return m, err
	}
	tag := ""
	if !naming.IsDigest(reference) {
		tag = reference
	}
	m, err = c.Content.Manifest(repo, d.Digest.String())
	if err != nil {
		if m, err = c.fetch(ctx, r, name, d); err != nil {
			return m, err
		}
		c.Counter.Cache("manifest", "miss")
	} else {
		c.hit("manifest", repo, m.Digest)
	}
	if err := c.keep(repo, tag, m); err != nil {
		return m, err
	}
	if tag != "" {
		c.note(c.checked, repo+":"+tag)
	}
	return m, nil
}

// fetch reads a manifest.
func (c *Cache) fetch(ctx context.Context, r *Registry, name string, d ocispec.Descriptor) (m storage.Stored, err error) {
	if d.Size > manifest.MaxSize {
		return m, fmt.Errorf("the manifest %s has %d bytes, more than %d", d.Digest, d.Size, manifest.MaxSize)
	}
	body, err := r.Upstream.Fetch(ctx, name, d)
	if err != nil {
		return m, err
	}
	defer body.Close()
	m = storage.Stored{Digest: d.Digest, MediaType: d.MediaType}
	if m.Body, err = io.ReadAll(io.LimitReader(body, manifest.MaxSize+1)); err != nil {
		return m, fmt.Errorf("reading the manifest %s: %w", d.Digest, err)
	}
	if got := d.Digest.Algorithm().FromBytes(m.Body); got != d.Digest {
		return m, fmt.Errorf("the manifest that came is %s, not %s", got, d.Digest)
	}
	return m, nil
}

// keep stores a manifest, and where its tag stands now.
func (c *Cache) keep(repo, tag string, m storage.Stored) error {
	if there, err := c.Content.Manifest(repo, m.Digest.String()); err == nil {
		if tag == "" {
			return nil
		}
		if named, err := c.Content.Manifest(repo, tag); err == nil && named.Digest == there.Digest {
			return nil
		}
	}
	parsed, err := manifest.Parse(m.MediaType, m.Body)
	if err != nil {
		return err
	}
	c.room(int64(len(m.Body)))
	return c.Content.PutManifest(storage.Put{Repository: repo, Tag: tag, Digest: m.Digest, Body: m.Body, Parsed: parsed, Incomplete: true})
}

// refuse says what another registry's refusal means to our client.
func refuse(r *Registry, err error, unknown refusal.Code) error {
	switch {
	case errdefs.IsNotFound(err):
		return unknown.New("%s: %w", r.Host, err)
	case refusal.ManifestInvalid.Is(err), refusal.Denied.Is(err):
		return err
	}
	return refusal.Upstream.New("asking %s: %w", r.Host, err)
}

// fresh tells whether a tag was asked for lately.
func (c *Cache) fresh(repo, tag string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.checked[repo+":"+tag]) < c.Fresh
}

// note writes a time into a table that stays bounded.
func (c *Cache) note(table map[string]time.Time, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(table) >= maxNotes {
		clear(table)
	}
	table[key] = time.Now()
}

// hit counts what was here, and lets it become young again, now and then.
func (c *Cache) hit(kind, repo string, d digest.Digest) {
	c.Counter.Cache(kind, "hit")
	key := repo + "@" + d.String()
	c.mu.Lock()
	at, known := c.used[key]
	c.mu.Unlock()
	if known && time.Since(at) < agePause {
		return
	}
	c.note(c.used, key)
	if !known {
		return // it may have come a moment ago; what is in memory says enough for now
	}
	c.behind.Go(func() {
		if err := c.Space.Refresh(repo, d); err != nil {
			c.Log.Warn("the age of a cached blob could not be written down", "error", err)
		}
	})
}

// room makes room for what is about to come.
func (c *Cache) room(size int64) {
	if c.Size == 0 || c.Space.Spared()+size <= c.Size {
		return
	}
	// A tenth more, so that not each blob has to make its own.
	freed, err := c.Space.Evict(max(0, c.Size-c.Size/10-size))
	if err != nil {
		c.Log.Error("making room in the cache", "error", err)
		return
	}
	c.Log.Info("the cache made room", "freed", freed)
}

// Tags implements protocol.Source: what the other registry says, or, while it says nothing, what is here.
func (c *Cache) Tags(ctx context.Context, repo, last string, n int) ([]storage.Tag, bool, error) {
	r, name := c.of(repo)
	if r == nil {
		return c.Local.Tags(ctx, repo, last, n)
	}
	all, err := r.Upstream.Tags(ctx, name)
	if err != nil {
		if errdefs.IsNotFound(err) {
			return nil, false, refuse(r, err, refusal.NameUnknown)
		}
		tags, more, lerr := c.Records.Tags(repo, last, n)
		if lerr != nil {
			return nil, false, refuse(r, err, refusal.NameUnknown)
		}
		return tags, more, nil
	}
	return page(all, last, n)
}
