package system

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/spec"
)

// fsckLock: two checks at once would repair the same things.
type fsckLock struct{ mu sync.Mutex }

// Fsck checks everything below the data root, and tells what it finds; the last message is the sum, or the error that ended it.
func (s *Service) Fsck(ctx context.Context, repair bool, tell func(spec.CheckStep)) error {
	if s.ports.Checks == nil {
		return fmt.Errorf("this engine cannot check its data root: %w", errdefs.ErrNotImplemented)
	}
	if !s.fsck.mu.TryLock() {
		return fmt.Errorf("another check is under way: %w", errdefs.ErrConflict)
	}
	defer s.fsck.mu.Unlock()
	more := 0
	found := func(f spec.Finding) {
		more++
		tell(spec.CheckStep{Finding: &f})
	}
	if s.ports.Records != nil {
		for _, err := range s.ports.Records.Check() {
			found(spec.Finding{Kind: "records", ID: "store.db", Problem: "damaged", Detail: err.Error(), Advice: "stop the engine and restore the file from a backup"})
		}
	}
	before, err := s.leftovers(ctx)
	if err != nil {
		return err
	}
	sum, err := s.ports.Checks.Check(ctx, repair, tell)
	var after map[spec.Leftover]bool
	if err == nil {
		after, err = s.leftovers(ctx)
	}
	for l := range before {
		if after[l] { // not just being made or removed
			found(spec.Finding{Kind: l.Kind, ID: l.Container, Problem: "orphan", Detail: "there is no such container", Advice: "remove " + l.Path + " below the data root if nothing in it is needed"})
		}
	}
	sum.Found += more
	if err != nil {
		tell(spec.CheckStep{Error: err.Error()})
		return nil
	}
	tell(spec.CheckStep{Sum: &sum})
	return nil
}

// leftovers finds folders of containers that are not there. They are not deleted: they are all that is left of somebody's data.
func (s *Service) leftovers(ctx context.Context) (map[spec.Leftover]bool, error) {
	if s.ports.Disk == nil || s.ports.Containers == nil {
		return nil, nil
	}
	list, err := s.ports.Disk.OfContainers()
	out := map[spec.Leftover]bool{}
	for _, l := range list {
		if !s.ports.Containers.Known(ctx, l.Container) {
			out[l] = true
		}
	}
	return out, err
}
