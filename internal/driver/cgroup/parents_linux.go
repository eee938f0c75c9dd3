package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
)

// parents remembers which directories above the containers' were made here, so that they
// go with the last container, and those that somebody made and set up beforehand stay. The
// list lies in the exec root: it lives as long as the cgroups do, until the next boot.
type parents struct {
	file string // empty: in memory only

	mu    sync.RWMutex // held for reading while a container's directories are made
	known map[string]bool
	made  map[string]bool // directories
}

func newParents(file string) (*parents, error) {
	_ = atomicfile.Sweep(file) // of a daemon that was killed while it wrote
	p := &parents{file: file, known: map[string]bool{}, made: map[string]bool{}}
	if file == "" {
		return p, nil
	}
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for dir := range strings.Lines(string(b)) {
		p.made[strings.TrimSpace(dir)] = true
	}
	return p, nil
}

// hold keeps parent from being removed until the returned function is called. The first
// time it notes which of its directories are not there yet.
func (p *parents) hold(parent string, mounts []string) (release func(), err error) {
	p.mu.RLock()
	if p.known[parent] {
		return p.mu.RUnlock, nil
	}
	p.mu.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range mounts {
		for at := path.Join("/", parent); at != "/"; at = path.Dir(at) {
			dir := filepath.Join(m, at)
			if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
				p.made[dir] = true
			}
		}
	}
	if err := p.save(); err != nil {
		return nil, err
	}
	p.known[parent] = true
	// Between the two locks a removal may come; then making the directories makes parent again.
	return func() {}, nil
}

func (p *parents) save() error {
	if p.file == "" {
		return nil
	}
	var b strings.Builder
	for dir := range p.made {
		b.WriteString(dir + "\n")
	}
	return atomicfile.WriteVolatile(p.file, []byte(b.String()), 0o600)
}

// remove removes what was made of the parents, or of one alone, as far as it is empty.
func (p *parents) remove(only string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var dirs []string
	for dir := range p.made {
		if only == "" || strings.HasSuffix(dir, path.Join("/", only)) {
			dirs = append(dirs, dir)
		}
	}
	slices.SortFunc(dirs, func(a, b string) int { return len(b) - len(a) }) // children first
	gone := false
	for _, dir := range dirs {
		if err := unix.Rmdir(dir); err == nil || err == unix.ENOENT {
			delete(p.made, dir)
			gone = true
		}
	}
	if !gone {
		return nil
	}
	clear(p.known)
	return p.save()
}
