package images

import (
	"context"

	"github.com/distribution/reference"
)

// tagger gives images names.
type tagger struct {
	catalog  *catalog
	sentry   *sentry
	announce announcer
}

// Tag gives an image a further name.
func (t *tagger) Tag(ctx context.Context, ref, repo, tag string) error {
	e, _, err := t.catalog.find(ref)
	if err != nil {
		return err
	}
	named, err := parseName(repo, tag)
	if err != nil {
		return err
	}
	if err := t.sentry.admit(ctx, named, e.target); err != nil {
		return err
	}
	if _, err := t.catalog.point(ctx, named.String(), e.target); err != nil {
		return err
	}
	t.announce.tagged(e.target.Digest, reference.FamiliarString(named), e.labels())
	return nil
}
