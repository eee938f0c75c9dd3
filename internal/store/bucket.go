package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// Bucket holds the records of one kind. It implements containers.Records.
// Methods may be called from many goroutines; calls for one ID should not overlap.
type Bucket struct {
	s    *Store
	name string

	mu       sync.Mutex
	volatile map[string]bool // IDs whose records live below the exec root

	pending *pending
}

// Save commits the record durably before it returns. A volatile record stays volatile.
func (b *Bucket) Save(ctx context.Context, id string, record []byte) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := b.valid(id); err != nil {
		return err
	}
	if b.isVolatile(id) {
		return b.writeVolatile(id, record)
	}
	if err := b.pending.replace(id, record); err != nil {
		return err
	}
	if err := b.s.w.commit(key{b.name, id}, clone(record)); err != nil {
		return err
	}
	b.pending.drop(id)
	return nil
}

// SaveSoon commits the record within about a second, together with others.
// What fails is logged and tried again.
func (b *Bucket) SaveSoon(id string, record []byte) {
	if err := b.valid(id); err != nil {
		b.s.log.Error("a record cannot be saved", "bucket", b.name, "error", err)
		return
	}
	if b.isVolatile(id) {
		if err := b.writeVolatile(id, record); err != nil {
			b.s.log.Error("a volatile record cannot be saved", "bucket", b.name, "id", id, "error", err)
		}
		return
	}
	if err := b.pending.save(id, record, func() uint64 { return b.s.w.later(key{b.name, id}, clone(record)) }); err != nil {
		b.s.log.Error("a record would be lost if the daemon died within the second", "bucket", b.name, "id", id, "error", err)
	}
}

// SaveVolatile keeps the record below the exec root, without waiting for a disk.
// It survives the daemon but not a reboot.
func (b *Bucket) SaveVolatile(ctx context.Context, id string, record []byte) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := b.valid(id); err != nil {
		return err
	}
	if err := b.writeVolatile(id, record); err != nil {
		return err
	}
	b.mu.Lock()
	b.volatile[id] = true
	b.mu.Unlock()
	return nil
}

// Remove deletes the record durably. Removing what is not there is no error.
func (b *Bucket) Remove(_ context.Context, id string) error {
	if err := b.valid(id); err != nil {
		return err
	}
	if !b.isVolatile(id) {
		// Before the commit: what is removed must not come back out of what was pending.
		b.pending.drop(id)
		return b.s.w.commit(key{b.name, id}, nil)
	}
	if err := os.Remove(b.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("removing", b.file(id), err)
	}
	failpoint.Hit("gantryd.store-volatile-gone")
	b.mu.Lock()
	delete(b.volatile, id)
	b.mu.Unlock()
	return nil
}

// RemoveSoon deletes the record within a fraction of a second, or with the next commit. From its return on
// the record is gone for every daemon, a killed one's successor included; a power cut
// before the commit brings it back. Use it where what the record stands for is gone, too.
func (b *Bucket) RemoveSoon(ctx context.Context, id string) error {
	if b.valid(id) != nil || b.isVolatile(id) {
		return b.Remove(ctx, id)
	}
	err := b.pending.save(id, nil, func() uint64 { return b.s.w.later(key{b.name, id}, nil) })
	if err != nil { // no word to a successor: then the disk has to know
		return b.s.w.flush()
	}
	return nil
}

// All yields every record, durable and volatile, in order of ID. The bytes belong to the caller.
func (b *Bucket) All(ctx context.Context) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		records, err := b.read()
		if err != nil {
			b.s.log.Error("records cannot be read", "bucket", b.name, "error", err)
		}
		for _, id := range slices.Sorted(maps.Keys(records)) {
			if ctx.Err() != nil || !yield(id, records[id]) {
				return
			}
		}
	}
}

func (b *Bucket) read() (map[string][]byte, error) {
	// Without something pending this costs no sync.
	err := b.s.w.flush()
	records := map[string][]byte{}
	verr := b.s.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(b.name))
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(k, v []byte) error {
			records[string(k)] = clone(v)
			return nil
		})
	})
	err = errors.Join(err, verr)
	b.mu.Lock()
	ids := slices.Collect(maps.Keys(b.volatile))
	b.mu.Unlock()
	for _, id := range ids {
		data, rerr := os.ReadFile(b.file(id))
		if errors.Is(rerr, fs.ErrNotExist) {
			continue
		}
		if rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		records[id] = data
	}
	return records, err
}

func (b *Bucket) isVolatile(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.volatile[id]
}

func (b *Bucket) file(id string) string { return filepath.Join(b.s.volatile, b.name, id) }

func (b *Bucket) writeVolatile(id string, record []byte) error {
	path := b.file(id)
	err := atomicfile.WriteVolatile(path, record, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = atomicfile.WriteVolatile(path, record, 0o600)
		}
	}
	if err != nil {
		return explain("writing", path, err)
	}
	failpoint.Hit("gantryd.store-volatile")
	return nil
}

// valid refuses IDs that could not be file names: volatile records are files.
func (b *Bucket) valid(id string) error {
	if id == "" || len(id) > 255 || id[0] == '.' || strings.ContainsAny(id, "/\x00") || b.name == metaBucket {
		return fmt.Errorf("%q cannot be the ID of a record of %s: %w", id, b.name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// clone never gives nil, which means deletion inside the writer.
func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }
