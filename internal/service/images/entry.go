package images

import (
	"cmp"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// entry is one image: everything that has the same target. It never changes once it is in the index.
type entry struct {
	target    ocispec.Descriptor
	names     []string                 // canonical, sorted; without the dangling one
	pushed    map[string]digest.Digest // by name: what a registry has under it, where that is another digest
	tagged    time.Time
	manifests []*manifest
	content   int64 // bytes of the blobs that are here
}

// title is the image's first name, or its ID.
func (e *entry) title() string {
	if len(e.names) > 0 {
		return familiar(e.names[0])
	}
	return short(e.target.Digest.String())
}

// created is the time of the image's first platform that says one.
func (e *entry) created() time.Time {
	for _, m := range e.manifests {
		if m.kind == kindImage && m.image.Created != nil {
			return *m.image.Created
		}
	}
	return time.Time{}
}

// whole tells whether all blobs of all platforms are here.
func (e *entry) whole() bool {
	for _, m := range e.manifests {
		if !m.available {
			return false
		}
	}
	return true
}

// labels are those of the image's first platform.
func (e *entry) labels() map[string]string {
	for _, m := range e.manifests {
		if m.kind == kindImage {
			return m.image.Config.Labels
		}
	}
	return nil
}

// repoTags are the names with a tag, in their familiar form.
func (e *entry) repoTags() []string {
	out := []string{}
	for _, n := range e.names {
		if named, err := reference.ParseNormalizedNamed(n); err == nil {
			if _, ok := named.(reference.Tagged); ok {
				out = append(out, reference.FamiliarString(named))
			}
		}
	}
	return out
}

// repoDigests are the repositories of all names, with the digest by which the registry has it, or would have it.
func (e *entry) repoDigests() []string {
	out := []string{}
	for _, n := range e.names {
		if named, err := reference.ParseNormalizedNamed(n); err == nil {
			out = append(out, reference.FamiliarName(named)+"@"+cmp.Or(e.pushed[n], e.target.Digest).String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// matches tells whether one of the names fits one of the patterns.
func (e *entry) matches(patterns []string) bool {
	return slices.ContainsFunc(e.names, func(n string) bool { return matches(n, patterns) })
}

// diffIDs is the set of all platforms' layers.
func (e *entry) diffIDs() map[digest.Digest]bool {
	set := map[digest.Digest]bool{}
	for _, m := range e.manifests {
		for _, d := range m.image.RootFS.DiffIDs {
			set[d] = true
		}
	}
	return set
}

// matches tells whether a name, with or without its tag, fits one of the patterns.
func matches(name string, patterns []string) bool {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	for _, p := range patterns {
		if ok, _ := reference.FamiliarMatch(p, named); ok {
			return true
		}
		if ok, _ := reference.FamiliarMatch(p, reference.TrimNamed(named)); ok {
			return true
		}
	}
	return false
}
