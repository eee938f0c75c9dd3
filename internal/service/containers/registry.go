package containers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// registry finds containers by ID, name and ID prefix. Its lock is held for a
// look-up only, never during work on a container.
type registry struct {
	mu    sync.RWMutex
	ids   []string // sorted, for prefixes
	byid  map[string]*entry
	names map[string]string // name → ID; also names reserved by a create under way
}

func newRegistry() *registry {
	return &registry{byid: map[string]*entry{}, names: map[string]string{}}
}

// entry is a container in memory: its record and what is not recorded.
type entry struct {
	id     string
	rec    atomic.Pointer[Container]
	health atomic.Pointer[container.Health]

	mu       sync.Mutex
	run      *run            // the present run, or the next one
	removed  chan struct{}   // closed when the container is gone
	restart  func()          // cancels a pending restart, or nil
	execs    map[string]bool // IDs of exec instances that inspect shows
	stopping bool            // a stop or kill of the user is under way: no restart afterwards
	keep     bool            // a restart is under way: no auto-remove at this exit
	backoff  backoff
	oom      *oomWatch     // of the present run, or nil
	torn     chan struct{} // closed when what the last run held is free; nil: it is
}

func newEntry(rec *Container) *entry {
	e := &entry{id: rec.ID, run: newRun(), removed: make(chan struct{})}
	e.rec.Store(rec)
	e.health.Store(rec.State.Health)
	return e
}

// snapshot is the present record. It never changes.
func (e *entry) snapshot() *Container { return e.rec.Load() }

// execIDs lists the container's exec instances, sorted.
func (e *entry) execIDs() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.execs))
}

// get resolves as Docker does: full ID, full name, then unique prefix of an ID.
func (r *registry) get(ref string) (*entry, error) {
	if ref == "" {
		return nil, fmt.Errorf("invalid name or ID supplied: %q: %w", ref, errdefs.ErrInvalidArgument)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if e := r.byid[ref]; e != nil {
		return e, nil
	}
	if e := r.byid[r.names[strings.TrimPrefix(ref, "/")]]; e != nil {
		return e, nil
	}
	i, _ := slices.BinarySearch(r.ids, ref)
	if i < len(r.ids) && strings.HasPrefix(r.ids[i], ref) {
		if i+1 < len(r.ids) && strings.HasPrefix(r.ids[i+1], ref) {
			return nil, fmt.Errorf("multiple IDs found with provided prefix: %s: %w", ref, errdefs.ErrInvalidArgument)
		}
		return r.byid[r.ids[i]], nil
	}
	return nil, noSuch(ref)
}

func noSuch(ref string) error {
	return classed.Errorf(errdefs.ErrNotFound, "No such container: %s", ref)
}

// byID is the entry of a full ID, or nil.
func (r *registry) byID(id string) *entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byid[id]
}

// all are the present records, in order of ID.
func (r *registry) all() []*Container {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]*Container, 0, len(r.ids))
	for _, id := range r.ids {
		out = append(out, r.byid[id].snapshot())
	}
	return out
}

// entries are all containers, in order of ID.
func (r *registry) entries() []*entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]*entry, 0, len(r.ids))
	for _, id := range r.ids {
		out = append(out, r.byid[id])
	}
	return out
}

// reserve takes a name for id; errdefs.Conflict if another container has it.
func (r *registry) reserve(name, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if owner, taken := r.names[name]; taken && owner != id {
		return classed.Errorf(errdefs.ErrConflict, "Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, owner)
	}
	r.names[name] = id
	return nil
}

// release gives a name back if id still has it.
func (r *registry) release(name, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[name] == id {
		delete(r.names, name)
	}
}

// add makes a container whose name is reserved visible.
func (r *registry) add(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, found := slices.BinarySearch(r.ids, e.id); !found {
		r.ids = slices.Insert(r.ids, i, e.id)
	}
	r.byid[e.id] = e
	r.names[e.snapshot().Name] = e.id
}

// drop takes a container out of the index, with its name.
func (r *registry) drop(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, found := slices.BinarySearch(r.ids, e.id); found {
		r.ids = slices.Delete(r.ids, i, i+1)
	}
	delete(r.byid, e.id)
	if name := e.snapshot().Name; r.names[name] == e.id {
		delete(r.names, name)
	}
}
