// Package store keeps records (containers, networks, volumes…) over restarts and
// crashes: one bbolt file below the data root, one bucket per kind, one durable
// commit per promise of the API. It holds bytes and knows nothing of their meaning.
//
// The life of a store:
//
//	s, err := store.Open(store.Options{DataRoot: "/var/lib/gantry", ExecRoot: "/run/gantry"})
//	defer s.Close()                        // commits what SaveSoon left pending
//	records := s.Bucket("containers")
//	err = records.Save(ctx, id, bytes)     // on disk when it returns: two syncs
//	records.SaveSoon(id, bytes)            // on disk within a second, or with the next Save
//	err = records.RemoveSoon(ctx, id)      // the same for a removal
//	err = records.SaveVolatile(ctx, id, b) // below the exec root only: lost at reboot
//
// All writes go through one goroutine. Saves that arrive while a commit is under
// way share the next one, so 100 containers created at once cost a few commits.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// File is the database's name below the data root.
const File = "store.db"

// soonDelay is how long a SaveSoon may wait for company, goneDelay a RemoveSoon.
const (
	soonDelay = time.Second
	goneDelay = 100 * time.Millisecond
)

// Options say where a store lives.
type Options struct {
	DataRoot string // absolute; made if missing (mode 0710)
	ExecRoot string // absolute; holds volatile records; made if missing (mode 0711)
	Log      *slog.Logger
}

// Store is an open database. It holds the data root's lock until Close.
type Store struct {
	db       *bbolt.DB
	path     string
	volatile string // directory of volatile records
	log      *slog.Logger
	lock     *os.File

	w       writer
	mu      sync.Mutex
	buckets map[string]*Bucket
}

// Open locks the data root, opens the database and brings it to this version's schema.
//
// Errors: errdefs.FailedPrecondition if another daemon holds the data root (its
// PID is named) or a newer version wrote it, errdefs.DataLoss if the file is
// damaged, errdefs.Unavailable if the file system is full or read-only.
func Open(o Options) (_ *Store, err error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := os.MkdirAll(o.DataRoot, 0o710); err != nil {
		return nil, explain("making the data root", o.DataRoot, err)
	}
	lock, err := lockRoot(o.DataRoot)
	if err != nil {
		return nil, err
	}
	s := &Store{
		path: filepath.Join(o.DataRoot, File), volatile: filepath.Join(o.ExecRoot, "records"),
		log: o.Log, lock: lock, buckets: map[string]*Bucket{},
	}
	defer func() {
		if err != nil {
			if s.db != nil {
				_ = s.db.Close()
			}
			_ = lock.Close()
		}
	}()
	if err := s.openFile(); err != nil {
		return nil, err
	}
	if err := s.prepareVolatile(); err != nil {
		return nil, explain("preparing volatile records", s.volatile, err)
	}
	s.w.start(s)
	return s, nil
}

// openFile opens, walks and migrates the database. A damaged page shows as a
// panic or a fault in the memory map; both become an error here, at start, and
// not in the middle of a request.
func (s *Store) openFile() (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = damaged(s.path, fmt.Errorf("%v", r))
		}
	}()
	s.db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{
		Timeout:      time.Second,
		FreelistType: bbolt.FreelistMapType,
		// A map larger than the allocation step makes the file grow by 16 MiB
		// (sparse) at once; growing is an extra sync.
		InitialMmapSize: 32 << 20,
	})
	switch {
	case err == nil:
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch),
		errors.Is(err, errdefs.ErrDataLoss):
		return damaged(s.path, err)
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("opening %s: another process has the file open: %w", s.path, errdefs.ErrFailedPrecondition)
	default:
		if st, serr := os.Stat(s.path); serr == nil && st.Mode().IsRegular() && st.Size() > 0 && !environmental(err) {
			return damaged(s.path, err)
		}
		return explain("opening", s.path, err)
	}
	if err := s.walk(); err != nil {
		return damaged(s.path, err)
	}
	return s.migrate()
}

// walk reads every record once, so that damage is found at start.
func (s *Store) walk() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		if size := tx.Size(); size > 0 {
			st, err := os.Stat(s.path)
			if err != nil {
				return err
			}
			if st.Size() < size {
				return fmt.Errorf("the file has %d bytes of the %d it should have", st.Size(), size)
			}
		}
		var sum byte
		err := tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				for _, x := range [][]byte{k, v} {
					if len(x) > 0 {
						sum ^= x[0] ^ x[len(x)-1]
					}
				}
				return nil
			})
		})
		_ = sum
		return err
	})
}

// Bucket is the collection of records of one kind, e.g. "containers". The same
// name gives the same bucket.
func (s *Store) Bucket(name string) *Bucket {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[name]
	if b == nil {
		b = &Bucket{s: s, name: name, volatile: s.volatileIDs(name), pending: newPending(filepath.Join(s.volatile, name+".soon"))}
		s.buckets[name] = b
		if err := b.pending.left(func(id string, record []byte) uint64 { return s.w.later(key{name, id}, record) }); err != nil {
			s.log.Error("records that a killed daemon did not commit cannot be read", "bucket", name, "error", err)
		}
	}
	return b
}

// durable tells the bucket that a change made by SaveSoon is on disk.
func (s *Store) durable(k key, seq uint64) {
	s.mu.Lock()
	b := s.buckets[k.bucket]
	s.mu.Unlock()
	if b != nil {
		b.pending.committed(k.id, seq)
	}
}

// Close commits what is pending, closes the file and gives the data root free.
func (s *Store) Close() error {
	err := s.w.stop()
	return errors.Join(err, s.db.Close(), s.lock.Close())
}

// Check tells what is wrong with the database: pages that are unreachable or
// used twice, records that are no JSON. An empty answer means that all is well.
func (s *Store) Check() []error {
	if err := s.w.flush(); err != nil {
		return []error{err}
	}
	var found []error
	err := s.db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			found = append(found, damaged(s.path, err))
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				if string(name) != metaBucket && !json.Valid(v) {
					found = append(found, fmt.Errorf("record %s of %s is not valid JSON: %w", k, name, errdefs.ErrDataLoss))
				}
				return nil
			})
		})
	})
	if err != nil {
		found = append(found, err)
	}
	return found
}

func damaged(path string, err error) error {
	return fmt.Errorf("the database %s is damaged (%w): restore it from a backup, or move it away to start with no containers, networks and volumes on record: %w",
		path, err, errdefs.ErrDataLoss)
}

func environmental(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// explain says what would help for errors that come from the file system.
func explain(what, path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s %s: %w; free some space (gantry system df, gantry system prune): %w", what, path, err, errdefs.ErrUnavailable)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s %s: %w; the engine needs a writable data root (--data-root): %w", what, path, err, errdefs.ErrUnavailable)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s %s: %w; the engine has to run as root: %w", what, path, err, errdefs.ErrPermissionDenied)
	}
	return fmt.Errorf("%s %s: %w", what, path, err)
}
