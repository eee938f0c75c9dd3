package keeper

import (
	"sync"
	"syscall"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/spec"
)

// fdsPerProc is what one process may take of the descriptor budget.
const fdsPerProc = 8

// table knows the processes: by name while somebody may ask for them, and by number as long as events of
// theirs may come, which a forgotten one's sink goes on doing. Any goroutine may ask.
type table struct {
	nofile uint64 // how many descriptors this process may have

	mu     sync.Mutex // before any proc.mu
	procs  map[string]*proc
	byID   map[int32]*proc
	nextID int32
}

func newTable(nofile uint64) *table {
	return &table{nofile: nofile, procs: map[string]*proc{}, byID: map[int32]*proc{}}
}

// named gives the process with a folder's name, or nil.
func (t *table) named(name string) *proc {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.procs[name]
}

// numbered gives the process that an event is about, or nil.
func (t *table) numbered(id int32) *proc {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// find gives the process that a request is about.
func (t *table) find(key spec.ProcessKey) (*proc, error) {
	name, err := keeperproto.ProcName(key)
	if err != nil {
		return nil, err
	}
	p := t.named(name)
	if p == nil {
		return nil, protoError(keeperproto.ClassNotFound, "the keeper has no process %s", key)
	}
	return p, nil
}

// all gives those that have a name.
func (t *table) all() []*proc {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*proc, 0, len(t.procs))
	for _, p := range t.procs {
		all = append(all, p)
	}
	return all
}

// list tells of every process that has been running.
func (t *table) list() (l keeperproto.List) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.procs {
		p.mu.Lock()
		if p.sp.slot != nil && p.sp.slot.started.Load() != 0 {
			l.Entries = append(l.Entries, keeperproto.Entry{
				Key: p.key, PID: int32(p.pid), Started: p.sp.slot.started.Load(), Gen: p.gen, Alive: p.alive() || !p.told, Note: p.meta.note,
			})
		}
		p.mu.Unlock()
	}
	return l
}

// whileIdle does something when no process lives, and while none can be added; otherwise it gives one that lives.
func (t *table) whileIdle(do func()) (running *proc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.procs {
		if p.runs() {
			return p
		}
	}
	do()
	return nil
}

// reserve adds what make gives, if the launch's name is free and there are descriptors for one more.
func (t *table) reserve(name string, l keeperproto.Launch, make func() (*proc, error)) (*proc, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.procs[name]; taken {
		return nil, protoError(keeperproto.ClassAlreadyExists, "launching %s: it is being launched already", l.Key)
	}
	if used := uint64(len(t.byID)+1)*fdsPerProc + 128; used > t.nofile {
		return nil, protoError(keeperproto.ClassExhausted,
			"launching %s: the keeper's limit of %d open files is reached with %d processes; raise LimitNOFILE of the service", l.Key, t.nofile, len(t.byID))
	}
	p, err := make()
	if err != nil {
		return nil, err
	}
	t.number(p)
	t.procs[p.name] = p
	return p, nil
}

// add adds a process that was recovered.
func (t *table) add(p *proc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.number(p)
	t.procs[p.name] = p
}

// addSink adds one that is forgotten: it has no name any more.
func (t *table) addSink(p *proc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.number(p)
}

// number gives p the number that its events have. t.mu is held.
func (t *table) number(p *proc) {
	t.nextID++
	p.id = t.nextID
	t.byID[p.id] = p
}

// has tells whether p is the process of its name.
func (t *table) has(p *proc) bool { return t.named(p.name) == p }

// unname frees p's name, and tells whether p had it.
func (t *table) unname(p *proc) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.procs[p.name] != p {
		return false
	}
	delete(t.procs, p.name)
	return true
}

// remove takes p out: no event reaches it any more.
func (t *table) remove(p *proc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, p.id)
	if t.procs[p.name] == p {
		delete(t.procs, p.name)
	}
}

// raiseNofile makes the soft limit of descriptors the hard one, and gives it.
func raiseNofile() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	if r.Cur+1 < r.Max {
		r.Cur = r.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r)
	}
	return r.Cur
}
