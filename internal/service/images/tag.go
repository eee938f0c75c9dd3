package images

import (
	"context"

	"github.com/distribution/reference"
)

// Tag gives an image a further name.
func (s *Service) Tag(ctx context.Context, ref, repo, tag string) error {
	e, _, err := s.catalog.find(ref)
	if err != nil {
		return err
	}
	named, err := parseName(repo, tag)
	if err != nil {
		return err
	}
	if _, err := s.catalog.point(ctx, named.String(), e.target); err != nil {
		return err
	}
	s.announce.tagged(e.target.Digest, reference.FamiliarString(named), e.labels())
	return nil
}
