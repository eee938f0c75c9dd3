package cgroup

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/spec"
)

const (
	// sparesKept is how many cgroups wait to be taken. With more than sparesLow left new ones wait for
	// sparesPause, until the start in hand is over.
	sparesKept  = 8
	sparesLow   = 2
	sparesPause = 10 * time.Millisecond
	// sparePrefix begins their names; no container's ID has it.
	sparePrefix = "spare-"
)

// spares are cgroups below the default parent that were made ahead of time with the resources that were
// asked for last. Cgroup v1 has a directory per controller, each with files of its own, and makes them slowly,
// but it renames them at once. Version 2 has one directory, and no renaming: there are no spares on it.
type spares struct {
	mu    sync.Mutex
	res   *cgroups.Resources
	ready []string // names
	made  uint64
	busy  bool
	over  bool
	fill  sync.WaitGroup
}

// take gives container a spare cgroup with exactly these resources, if there is one.
func (d *Driver) take(container string, res *cgroups.Resources) (spec.Cgroup, bool) {
	p := &d.spare
	p.mu.Lock()
	name := ""
	if n := len(p.ready); n > 0 && reflect.DeepEqual(p.res, res) {
		name, p.ready = p.ready[n-1], p.ready[:n-1]
	}
	p.mu.Unlock()
	if name == "" {
		return spec.Cgroup{}, false
	}
	cg := spec.Cgroup{Path: path.Join("/", d.parent, container), Dirs: map[string]string{}}
	for _, h := range d.host.Hierarchies {
		to := filepath.Join(h.Mount, cg.Path)
		if err := unix.Rename(filepath.Join(h.Mount, d.parent, name), to); err != nil {
			d.discard(name)
			d.discard(container)
			return spec.Cgroup{}, false
		}
		for _, n := range h.Names {
			cg.Dirs[n] = to
		}
	}
	return cg, true
}

// restock makes spares with these resources in the background.
func (d *Driver) restock(res *cgroups.Resources) {
	p := &d.spare
	p.mu.Lock()
	defer p.mu.Unlock()
	if !reflect.DeepEqual(p.res, res) {
		for _, name := range p.ready {
			d.discard(name)
		}
		p.res, p.ready = res, nil
	}
	if p.busy || p.over || len(p.ready) >= sparesKept {
		return
	}
	p.busy = true
	kept := p.res // equal to res, and told apart from later ones by its address
	wait := time.Duration(0)
	if len(p.ready) > sparesLow {
		wait = sparesPause
	}
	p.fill.Go(func() {
		time.Sleep(wait)
		d.fillSpares(kept)
	})
}

func (d *Driver) fillSpares(res *cgroups.Resources) {
	p := &d.spare
	for {
		p.mu.Lock()
		if p.over || p.res != res || len(p.ready) >= sparesKept {
			p.busy = false
			p.mu.Unlock()
			return
		}
		p.made++
		name := sparePrefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(p.made, 10)
		p.mu.Unlock()
		_, err := d.make(d.parent, name, res)
		p.mu.Lock()
		switch {
		case err != nil: // create makes its own, and says what is wrong
			p.busy = false
			p.mu.Unlock()
			return
		case p.res != res || p.over:
			d.discard(name)
		default:
			p.ready = append(p.ready, name)
		}
		p.mu.Unlock()
	}
}

// discard removes a cgroup below the default parent that nothing runs in.
func (d *Driver) discard(name string) {
	for _, h := range d.host.Hierarchies {
		_ = unix.Rmdir(filepath.Join(h.Mount, d.parent, name))
	}
}

// endSpares removes them for good.
func (d *Driver) endSpares() {
	d.spare.mu.Lock()
	d.spare.over = true
	d.spare.mu.Unlock()
	d.spare.fill.Wait()
	for _, name := range d.spare.ready {
		d.discard(name)
	}
	d.spare.ready = nil
}

// sweepSpares removes those that a killed daemon has left.
func (d *Driver) sweepSpares() error {
	var errs []error
	for _, h := range d.host.Hierarchies {
		entries, err := os.ReadDir(filepath.Join(h.Mount, d.parent))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), sparePrefix) {
				d.discard(e.Name())
			}
		}
	}
	return errors.Join(errs...)
}
