package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// pending keeps what SaveSoon has not committed yet in files below the exec root, so that
// a daemon that is killed within the second loses nothing. The files are gone once the commit
// is durable; those found at the start are committed then. An empty file is a removal.
type pending struct {
	dir string

	mu  sync.Mutex
	seq map[string]uint64 // the latest change of each ID that has a file
}

func newPending(dir string) *pending { return &pending{dir: dir, seq: map[string]uint64{}} }

// save writes the file and enqueues the change. Both happen under one lock, so that the
// commit of an older change does not take the file of a newer one away. A file that cannot be
// written does not hold the change back.
func (p *pending) save(id string, record []byte, enqueue func() uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.write(id, record)
	p.seq[id] = enqueue()
	return err
}

// replace brings the file of a record that is about to be committed up to date, if there is one.
func (p *pending) replace(id string, record []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.seq[id]; !ok {
		return nil
	}
	return p.write(id, record)
}

// drop removes the record's file, if there is one.
func (p *pending) drop(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.seq[id]; ok {
		p.remove(id)
	}
}

// committed removes the file unless a newer change is waiting.
func (p *pending) committed(id string, seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seq[id] == seq {
		p.remove(id)
	}
}

// left hands out what a killed daemon did not commit.
func (p *pending) left(each func(id string, record []byte) uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // a write that was cut short
			_ = os.Remove(filepath.Join(p.dir, e.Name()))
			continue
		}
		data, rerr := os.ReadFile(filepath.Join(p.dir, e.Name()))
		if rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		if len(data) == 0 {
			data = nil
		}
		p.seq[e.Name()] = each(e.Name(), data)
	}
	return err
}

func (p *pending) write(id string, record []byte) error {
	path := filepath.Join(p.dir, id)
	err := atomicfile.WriteVolatile(path, record, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(p.dir, 0o700); err == nil {
			err = atomicfile.WriteVolatile(path, record, 0o600)
		}
	}
	if err != nil {
		return explain("writing", path, err)
	}
	failpoint.Hit("gantryd.store-pending")
	return nil
}

func (p *pending) remove(id string) {
	delete(p.seq, id)
	_ = os.Remove(filepath.Join(p.dir, id))
	failpoint.Hit("gantryd.store-pending-gone")
}
