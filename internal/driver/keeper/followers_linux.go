package keeper

import (
	"context"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
)

// followers are the readers of output, of processes that run and of such as are still to be launched.
type followers struct {
	conn *connection

	mu      sync.Mutex
	nextID  uint32
	readers map[uint32]*reader                       // by watch ID
	waiting map[spec.ProcessKey]map[*reader]struct{} // those of what is not launched yet
}

func newFollowers(conn *connection) *followers {
	return &followers{conn: conn, readers: map[uint32]*reader{}, waiting: map[spec.ProcessKey]map[*reader]struct{}{}}
}

// Follow subscribes; see containers.Outputs.
func (f *followers) Follow(ctx context.Context, key spec.ProcessKey) (containers.OutputReader, error) {
	r := f.enter(key) // before asking: a launch in between finds it
	w := keeperproto.Watch{Key: key, ID: r.id, Pos: keeperproto.WatchFromNow}
	m, err := f.conn.call(ctx, keeperproto.TypeWatch, w.Encode())
	if errdefs.IsNotFound(err) {
		return r, nil // not launched yet
	}
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	defer m.CloseFDs()
	f.mu.Lock()
	f.stopWaiting(r)
	f.mu.Unlock()
	reply, err := keeperproto.DecodeWatchReply(m.Payload)
	if err == nil {
		err = r.begin(m.FDs, reply.Gen, reply.Pos)
	}
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// enter adds a reader, which waits for a launch.
func (f *followers) enter(key spec.ProcessKey) *reader {
	r := &reader{of: f, key: key, spool: -1, slot: -1, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nextID++
	r.id = f.nextID
	f.readers[r.id] = r
	f.wait(r)
	return r
}

// leave takes a reader out.
func (f *followers) leave(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.readers, r.id)
	f.stopWaiting(r)
}

// wait has a reader wait for a launch. The caller holds mu.
func (f *followers) wait(r *reader) {
	if f.waiting[r.key] == nil {
		f.waiting[r.key] = map[*reader]struct{}{}
	}
	f.waiting[r.key][r] = struct{}{}
}

// stopWaiting undoes wait. The caller holds mu.
func (f *followers) stopWaiting(r *reader) {
	w := f.waiting[r.key]
	delete(w, r)
	if len(w) == 0 {
		delete(f.waiting, r.key)
	}
}

// claim takes those that wait for a launch.
func (f *followers) claim(key spec.ProcessKey) []*reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rs []*reader
	for r := range f.waiting[key] {
		rs = append(rs, r)
	}
	delete(f.waiting, key)
	return rs
}

// unclaim lets them wait for the next try.
func (f *followers) unclaim(rs []*reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range rs {
		if f.readers[r.id] == r {
			f.wait(r)
		}
	}
}

// resume puts every watch into place in a new keeper.
func (f *followers) resume(ctx context.Context, l *link) {
	f.mu.Lock()
	rs := make([]*reader, 0, len(f.readers))
	for _, r := range f.readers {
		rs = append(rs, r)
	}
	f.mu.Unlock()
	failpoint.Hit("gantryd.keeper-resume")
	for _, r := range rs {
		r.resume(ctx, l)
	}
}

// grew wakes the reader with this watch ID.
func (f *followers) grew(id uint32) {
	f.mu.Lock()
	r := f.readers[id]
	f.mu.Unlock()
	if r != nil {
		r.poke()
	}
}
