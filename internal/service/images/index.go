package images

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// index answers look-ups from memory.
type index struct {
	mu      sync.RWMutex
	byName  map[string]*entry
	byID    map[digest.Digest]*entry
	further map[digest.Digest]*entry // by digest of a platform's manifest or configuration, or of what a registry has
}

// byDigest finds an image by its ID or by a digest of one of its manifests or configurations.
func (x *index) byDigest(d digest.Digest) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.at(d)
}

// at is the image with this ID, or else with this manifest or configuration. The caller holds mu.
func (x *index) at(d digest.Digest) *entry { return cmp.Or(x.byID[d], x.further[d]) }

// all lists the entries, newest first.
func (x *index) all() []*entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]*entry, 0, len(x.byID))
	for _, e := range x.byID {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *entry) int {
		return cmp.Or(b.created().Compare(a.created()), strings.Compare(string(a.target.Digest), string(b.target.Digest)))
	})
	return out
}

// chains are the layers of all images.
func (x *index) chains() (keep [][]digest.Digest) {
	for _, e := range x.all() {
		for _, m := range e.manifests {
			if m.kind == kindImage && m.available {
				keep = append(keep, m.image.RootFS.DiffIDs)
			}
		}
	}
	return keep
}

// find looks up what a user wrote: a name, name@digest, an ID or configuration
// digest, or a prefix of one. name is the familiar form, or the ID.
func (x *index) find(ref string) (e *entry, name string, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if d := digest.Digest(ref); strings.HasPrefix(ref, "sha256:") && d.Validate() == nil {
		if e = x.at(d); e != nil {
			return e, e.target.Digest.String(), nil
		}
		return nil, "", notFound(ref)
	}
	prefix, isHex := hexPrefix(ref)
	if len(prefix) == 64 && isHex {
		d := digest.NewDigestFromEncoded(digest.SHA256, prefix)
		if e = x.at(d); e != nil {
			return e, e.target.Digest.String(), nil
		}
		return nil, "", notFound(ref)
	}
	if !strings.HasPrefix(ref, "sha256:") {
		named, perr := reference.ParseNormalizedNamed(ref)
		if perr != nil {
			if !isHex {
				return nil, "", fmt.Errorf("%w: %w", perr, errdefs.ErrInvalidArgument)
			}
		} else if e, name = x.named(named); e != nil {
			return e, name, nil
		} else {
			ref = reference.FamiliarString(reference.TagNameOnly(named))
		}
	}
	if isHex && len(prefix) < 64 {
		e, err = x.prefixed(prefix)
		if err != nil || e != nil {
			return e, idOf(e), err
		}
		if strings.HasSuffix(ref, ":latest") && len(prefix) >= 12 {
			ref = strings.TrimSuffix(ref, ":latest")
		}
	}
	return nil, "", notFound(ref)
}

func idOf(e *entry) string {
	if e == nil {
		return ""
	}
	return e.target.Digest.String()
}

func (x *index) named(named reference.Named) (*entry, string) {
	if c, ok := named.(reference.Canonical); ok {
		e := x.at(c.Digest())
		if e == nil {
			return nil, ""
		}
		for _, n := range e.names {
			if r, err := reference.ParseNormalizedNamed(n); err == nil && r.Name() == named.Name() {
				return e, reference.FamiliarString(named)
			}
		}
		return nil, ""
	}
	named = reference.TagNameOnly(named)
	return x.byName[named.String()], reference.FamiliarString(named)
}

// prefixed finds the one image whose ID, or else manifest or configuration, begins so.
func (x *index) prefixed(prefix string) (*entry, error) {
	for _, m := range []map[digest.Digest]*entry{x.byID, x.further} {
		var found *entry
		for d, e := range m {
			if !strings.HasPrefix(d.Encoded(), prefix) || e == found {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("multiple images found with the prefix %q: give more digits of the ID: %w", prefix, errdefs.ErrInvalidArgument)
			}
			found = e
		}
		if found != nil {
			return found, nil
		}
	}
	return nil, nil
}

func hexPrefix(ref string) (string, bool) {
	s := strings.TrimPrefix(ref, "sha256:")
	if len(s) < 2 || len(s) > 64 {
		return "", false
	}
	return s, strings.Trim(s, "0123456789abcdef") == ""
}

func notFound(ref string) error {
	return classed.Errorf(errdefs.ErrNotFound, "No such image: %s", ref)
}

// replace puts all images in the place of those before.
func (x *index) replace(byID map[digest.Digest]*entry) {
	byName, further := map[string]*entry{}, map[digest.Digest]*entry{}
	for _, e := range byID {
		slices.Sort(e.names)
		for _, n := range e.names {
			byName[n] = e
		}
		for _, d := range e.pushed {
			further[d] = e
		}
		for _, m := range e.manifests {
			if m.kind == kindImage && m.available {
				further[m.desc.Digest], further[m.config.Digest] = e, e
			}
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byID, x.byName, x.further = byID, byName, further
}

// byExact finds an image by its ID only.
func (x *index) byExact(d digest.Digest) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byID[d]
}

// byNameExact finds an image by a canonical name.
func (x *index) byNameExact(name string) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byName[name]
}
