package images

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/moby/moby/api/types/image"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// pruner removes what nobody uses, and tells how much that gave back.
type pruner struct {
	catalog  *catalog
	users    *users
	accounts *accountant
	remove   *remover
	announce announcer
	log      *slog.Logger
}

// Prune removes images that no container uses: those without a name, or with the filter dangling=false all. The filters
// reference=PATTERN and unused-for=DURATION are Gantry's own.
func (p *pruner) Prune(ctx context.Context, a filters.Args) (image.PruneReport, error) {
	report := image.PruneReport{ImagesDeleted: []image.DeleteResponse{}}
	if err := a.Check("dangling", "label", "label!", "until", "reference", "unused-for"); err != nil {
		return report, err
	}
	idle, err := parseIdle(a["unused-for"])
	if err != nil {
		return report, err
	}
	if err := checkPatterns(a["reference"]); err != nil {
		return report, err
	}
	onlyDangling, err := a.Bool("dangling", true)
	if err != nil {
		return report, err
	}
	until, err := parseUntil(a["until"])
	if err != nil {
		return report, err
	}
	before, err := p.accounts.DiskUsage(ctx)
	if err != nil {
		return report, err
	}
	uses := p.users.all(ctx)
	for _, e := range p.catalog.all() {
		if onlyDangling && len(e.names) > 0 || !until.IsZero() && !e.created().Before(until) ||
			a.Has("reference") && !e.matches(a["reference"]) || time.Since(p.catalog.uses.of(e)) < idle ||
			!a.Labels("label", e.labels()) || !a.NoLabels("label!", e.labels()) ||
			slices.ContainsFunc(uses, func(u ContainerUse) bool { return u.Image == e.target.Digest }) {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return report, err
		}
		refs := slices.Clone(e.names)
		if len(refs) == 0 {
			refs = []string{e.target.Digest.String()}
		}
		for _, ref := range refs {
			out, err := p.remove.untag(ctx, ref, false, uses)
			if err != nil {
				p.log.Warn("an image was not pruned", "image", ref, "error", err)
				break
			}
			report.ImagesDeleted = append(report.ImagesDeleted, out...)
		}
	}
	if len(report.ImagesDeleted) == 0 {
		return report, nil
	}
	p.catalog.sweep(ctx)
	after, err := p.accounts.DiskUsage(ctx)
	report.SpaceReclaimed = uint64(max(0, before.TotalSize-after.TotalSize))
	p.announce.pruned(report.SpaceReclaimed)
	return report, err
}
