package cgroup

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/warm"
	"github.com/gantry-engine/gantry/internal/spec"
)

// sparePrefix begins the names of spares; no container's ID has it.
const sparePrefix = "spare-"

// spareSize is how many cgroups wait to be taken.
var spareSize = warm.Size{Idle: 8, Limit: 8}

// spares are cgroups below the default parent that were made ahead of time, with resources set. Cgroup v1 has a
// directory per controller, each with files of its own, and makes them slowly, but it renames
// them at once. Version 2 has one directory, and no renaming: there are no spares on it.
type spares struct {
	d    *Driver
	made atomic.Uint64
	kept *warm.Keyed[*cgroups.Resources, string] // names
}

func newSpares(d *Driver) *spares {
	p := &spares{d: d}
	same := func(a, b *cgroups.Resources) bool { return reflect.DeepEqual(a, b) }
	p.kept = warm.NewKeyed(same, func(res *cgroups.Resources) *warm.Pool[string] {
		return warm.New(spareSize, warm.Maker[string]{
			Begin: func() func() (string, error) {
				name := sparePrefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(p.made.Add(1), 10)
				return func() (string, error) {
					_, err := d.make(d.parent, name, res)
					return name, err
				}
			},
			Drop: p.discard,
		})
	})
	return p
}

// take gives container a spare cgroup with exactly these resources, if there is one.
func (p *spares) take(container string, res *cgroups.Resources) (spec.Cgroup, bool) {
	name, ok := p.kept.Take(res)
	if !ok {
		return spec.Cgroup{}, false
	}
	cg := spec.Cgroup{Path: path.Join("/", p.d.parent, container), Dirs: map[string]string{}}
	for _, h := range p.d.host.Hierarchies {
		to := filepath.Join(h.Mount, cg.Path)
		if err := unix.Rename(filepath.Join(h.Mount, p.d.parent, name), to); err != nil {
			p.discard(name)
			p.discard(container)
			return spec.Cgroup{}, false
		}
		for _, n := range h.Names {
			cg.Dirs[n] = to
		}
	}
	return cg, true
}

// discard removes a cgroup below the default parent that nothing runs in.
func (p *spares) discard(name string) {
	for _, h := range p.d.host.Hierarchies {
		_ = unix.Rmdir(filepath.Join(h.Mount, p.d.parent, name))
	}
}

// sweep removes those that a killed daemon has left.
func (p *spares) sweep() error {
	var errs []error
	for _, h := range p.d.host.Hierarchies {
		entries, err := os.ReadDir(filepath.Join(h.Mount, p.d.parent))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), sparePrefix) {
				p.discard(e.Name())
			}
		}
	}
	return errors.Join(errs...)
}
