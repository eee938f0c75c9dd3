package images

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// parseName makes the canonical name of what a user wrote; repo may hold the tag.
func parseName(repo, tag string) (reference.Named, error) {
	ref := repo
	if tag != "" {
		if d := digest.Digest(tag); d.Validate() == nil {
			return nil, fmt.Errorf("refusing to create a tag with a digest reference: %w", errdefs.ErrInvalidArgument)
		}
		ref += ":" + tag
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, fmt.Errorf("refusing to create a tag with a digest reference: %w", errdefs.ErrInvalidArgument)
	}
	if reference.FamiliarName(named) == "sha256" {
		return nil, fmt.Errorf("refusing to create an ambiguous tag using digest algorithm as name: %w", errdefs.ErrInvalidArgument)
	}
	return reference.TagNameOnly(named), nil
}

// nameOrNone is the canonical name of what a user wrote for a new image, or "" where no repository was given.
func nameOrNone(repo, tag string) (string, error) {
	if repo == "" {
		return "", nil
	}
	named, err := parseName(repo, tag)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

// familiar is a canonical name as users write it.
func familiar(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

// short is an ID as messages show it: 12 digits, without the algorithm.
func short(id string) string {
	if d := digest.Digest(id); d.Validate() == nil {
		id = d.Encoded()
	}
	return id[:min(12, len(id))]
}
