package images

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/containerd/platforms"

	"github.com/gantry-engine/gantry/internal/service/images/transfer"
	"github.com/gantry-engine/gantry/internal/service/images/trust"
)

// Deps are the service's ports. Containers may be nil until SetContainers; Log and Events may be nil.
type Deps struct {
	Content Content
	// Recall lets blobs go that are there unpacked; the zero value keeps them all.
	Recall     Recall
	Layers     Layers
	Verifier   trust.Verifier // of signatures; needed once there is an image policy
	Registry   Registry
	Lazy       Lazy // nil where it does not work
	Containers Containers
	Events     Events
	Log        *slog.Logger
	// What Check needs; it may be nil.
	ContentCheck ContentCheck
	LayerCheck   LayerCheck
	// Disk measures what the budget is for; without it there is none.
	Disk Disk
	// LastUse is the file that keeps when each image was used last; empty keeps it in memory only.
	LastUse string
}

// Service is the image store as the API sees it. It has no work of its own: each
// embedded part is a group of use cases over the catalog and the blobs.
type Service struct {
	*resolver
	*querier
	*accountant
	*tagger
	*remover
	*pruner
	*importer
	*committer
	*loader
	*saver
	*puller
	*pusher
	*checker
	*budget
	*arriver
	*sentry

	users *users
}

// New opens the image store: it reads all images into memory and sweeps what a crash left behind.
func New(ctx context.Context, d Deps) (*Service, error) {
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	store := &blobs{d.Content, d.Layers, d.Recall}
	c := &catalog{content: d.Content, layers: d.Layers, recall: d.Recall, lazy: lazily{d.Lazy}, host: host{platforms.Default()}, uses: newLastUse(d.LastUse, log), log: log}
	u := &users{d.Containers}
	tell := announcer{d.Events}
	guard := newSentry(d, c, store)
	s := &Service{
		resolver: &resolver{c, store, guard}, querier: &querier{c, u, sizes{d.Layers, d.Recall}}, tagger: &tagger{c, guard, tell}, remover: &remover{c, u, tell},
		loader: &loader{c, store, guard, tell}, saver: &saver{c, store, guard, tell}, sentry: guard, users: u,
	}
	s.puller = &puller{catalog: c, store: store, registry: d.Registry, sentry: guard, announce: tell,
		transfers: transfer.New(d.Content, defaultDownloads)}
	s.arriver = &arriver{c, store, tell, log}
	s.pusher = &pusher{c, store, d.Registry, guard, transfer.NewSlots(defaultUploads), transfer.NewSlots(max(2, runtime.NumCPU())), tell}
	s.budget = newBudget(d, c, u, s.remover, c.uses, log)
	c.changed = s.budget.look
	s.accountant = &accountant{s.querier}
	s.pruner = &pruner{c, u, s.accountant, s.remover, tell, log}
	s.checker = &checker{catalog: c, store: store, content: d.ContentCheck, layers: d.LayerCheck, sources: Anybody{d.Registry}}
	assemble := &assembler{c, store, guard}
	s.importer, s.committer = &importer{assemble, tell}, &committer{c, u, d.Layers, assemble, tell}
	if err := c.reload(ctx); err != nil {
		return nil, fmt.Errorf("reading the images: %w", err)
	}
	c.sweep(ctx)
	for _, e := range c.all() {
		c.offer(ctx, e)
	}
	return s, nil
}

// How many blobs come in and go out at once, unless told otherwise.
const (
	defaultDownloads = 3
	defaultUploads   = 5
)

// Bound changes how many blobs come in and go out at once; 0 is the default.
func (s *Service) Bound(downloads, uploads int) {
	s.puller.transfers.Bound(cmp.Or(max(downloads, 0), defaultDownloads))
	s.pusher.slots.Resize(cmp.Or(max(uploads, 0), defaultUploads))
}

// Close ends what goes on in the background.
func (s *Service) Close() {
	s.budget.close()
	s.budget.uses.save()
}

// SetContainers fills the port that can only exist after this service. It is called once, before the first request.
func (s *Service) SetContainers(c Containers) { s.users.containers = c }
