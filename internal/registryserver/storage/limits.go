package storage

import (
	"sync"
	"sync/atomic"

	"github.com/docker/go-units"

	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// Limits bound what repositories may take, in bytes; 0 is no bound. A repository counts each blob and manifest that it refers
// to once, whether or not another one has it too; the total counts each once, with the uploads on their way.
type Limits struct {
	Total int64
	Rules []LimitRule
}

// LimitRule bounds the repositories that a pattern means.
type LimitRule struct {
	Repositories   naming.Pattern
	Each, Together int64
}

// over refuses what goes beyond a limit: name would have more bytes than its own by add.
func (l Limits) over(name string, used func(string) int64, all func(naming.Pattern) int64, total, add int64) error {
	if l.Total > 0 && total+add > l.Total {
		return exceeded("the registry", total, add, l.Total)
	}
	for _, r := range l.Rules {
		if !r.Repositories.Match(name) {
			continue
		}
		if n := used(name); r.Each > 0 && n+add > r.Each {
			return exceeded("the repository "+name, n, add, r.Each)
		}
		if r.Together > 0 {
			if n := all(r.Repositories); n+add > r.Together {
				return exceeded("all of "+string(r.Repositories), n, add, r.Together)
			}
		}
	}
	return nil
}

func exceeded(what string, used, add, limit int64) error {
	return refusal.Denied.New("quota exceeded: %s may take %s, has %s and would get %s more; delete tags that are no longer needed, or ask for a larger quota",
		what, size(limit), size(used), size(add)).With(map[string]int64{"limit": limit, "used": used, "more": add})
}

func size(n int64) string { return units.HumanSize(float64(n)) }

// account is what repositories take, and what they may. The rows of the database are added up at the start, and followed by each commit.
type account struct {
	limits Limits
	spare  func(repository string) bool // Collect spares it

	mu     sync.RWMutex
	used   map[string]int64 // bytes that a repository links to
	total  int64            // bytes of all content, each once
	coming atomic.Int64     // bytes of all uploads
}

// room refuses bytes that are about to come, to an upload that has some already.
func (a *account) room(name string, has, more int64) error {
	if a.limits.Total == 0 && len(a.limits.Rules) == 0 {
		return nil
	}
	coming := a.coming.Load()
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.limits.over(name, func(n string) int64 { return a.used[n] }, a.sum, a.total+coming-has, has+more)
}

// sum is what the repositories of a pattern use. The caller holds mu.
func (a *account) sum(p naming.Pattern) (n int64) {
	for name, used := range a.used {
		if p.Match(name) {
			n += used
		}
	}
	return n
}

// within refuses a transaction that has brought a repository over a limit.
func (t *txn) within(name string) error {
	if t.used[name] <= 0 {
		return nil
	}
	t.s.mu.RLock()
	defer t.s.mu.RUnlock()
	// What was added counts as what would be, so that the figures of the refusal are those of the request.
	add := t.used[name]
	used := func(n string) int64 { return t.s.used[n] }
	all := func(p naming.Pattern) int64 {
		n := t.s.sum(p)
		for other, more := range t.used {
			if other != name && p.Match(other) {
				n += more
			}
		}
		return n
	}
	l := t.s.limits
	if t.total <= 0 {
		l.Total = 0
	}
	return l.over(name, used, all, t.s.total+t.total-add, add)
}

// Spared is what the repositories take that Collect spares.
func (a *account) Spared() (n int64) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for name, used := range a.used {
		if a.spare(name) {
			n += used
		}
	}
	return n
}

// Usage is what a repository takes.
func (a *account) Usage(name string) int64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.used[name]
}

// Totals are figures of the whole store.
type Totals struct {
	Bytes        int64 // of all content, each once
	Repositories int
	Uploads      int   // on their way
	Coming       int64 // their bytes
}

// Totals gives the figures of now.
func (s *Store) Totals() Totals {
	s.umu.Lock()
	t := Totals{Uploads: len(s.uploads), Coming: s.coming.Load()}
	s.umu.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	t.Bytes, t.Repositories = s.total, len(s.used)
	return t
}
