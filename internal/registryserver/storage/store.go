// Package storage keeps what a registry has: blobs and manifests as files named by their digest, and who refers to what in
// one bbolt file beside them.
//
//	lock                      held by the process that serves the folder
//	registry.db               repositories, tags, manifests, links, sizes
//	blobs/<algorithm>/ab/…    content: whole, verified, never changed
//	uploads/<repository>-<id> uploads on their way in: one file each
//
// A repository sees the content that it has a link to, and no other: that is what rights rest on.
//
// What is durable when a call returns: a blob's file is synced, renamed to its place and its folder synced before the commit
// that links it; changes that arrive while a commit is under way share the next one (commit.go). A crash at any step leaves
// at most a file that nothing links to; Sweep removes it. A row without its file is never written.
//
// Rows that say so and files change together under a lock per digest: whoever brings a blob in holds it from the rename to
// the commit, whoever removes a file looks once more, under the lock, whether a row has come.
package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"github.com/gantry-engine/gantry/internal/kit/keylock"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// Options say where a store lives and what it may take.
type Options struct {
	Dir    string // absolute; made if missing
	Limits Limits
	// Spare are repositories that Collect leaves alone: those that a cache fills and empties. May be nil.
	Spare func(repository string) bool
	Log   *slog.Logger // may be nil
}

// Store is an open store. It holds the folder's lock until Close.
type Store struct {
	Catalog
	*account
	folder
	lock   *os.File
	log    *slog.Logger
	opened time.Time

	commits *committer
	digests keylock.Locker // see the package comment
	bodies  *bodies        // manifests that were read lately
	touched *touched
	gate    sync.RWMutex // held for reading while somebody is told what is here, for writing while Collect removes

	umu     sync.Mutex
	uploads map[string]*Upload // those that this process knows, by file name
}

// schema is the version of the file's layout.
const schema = "1"

// Buckets. A repository is a bucket of its own below repositories, with the five buckets of repository.go.
var (
	bucketMeta         = []byte("meta")
	bucketRepositories = []byte("repositories")
	bucketContent      = []byte("content") // digest → size, number of links
	bucketWhere        = []byte("where")   // digest NUL repository → nothing
	keySchema          = []byte("schema")
)

// Open locks the folder and opens what is in it.
//
// Errors: errdefs.FailedPrecondition if another process holds the folder or a newer version wrote it.
func Open(o Options) (_ *Store, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Spare == nil {
		o.Spare = func(string) bool { return false }
	}
	for _, d := range []string{"", "uploads", "blobs"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, d), 0o750); err != nil {
			return nil, fmt.Errorf("the registry's data folder: %w", err)
		}
	}
	s := &Store{
		account: &account{limits: o.Limits, spare: o.Spare, used: map[string]int64{}}, folder: folder{o.Dir}, log: o.Log, opened: time.Now(),
		bodies: newBodies(32 << 20), touched: newTouched(), uploads: map[string]*Upload{},
	}
	if s.lock, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			if s.db != nil {
				_ = s.db.Close()
			}
			_ = s.lock.Close()
		}
	}()
	if s.db, err = bbolt.Open(filepath.Join(o.Dir, "registry.db"), 0o600, &bbolt.Options{
		Timeout: time.Second, FreelistType: bbolt.FreelistMapType, InitialMmapSize: 64 << 20, NoFreelistSync: true,
	}); err != nil {
		return nil, fmt.Errorf("opening %s: %w", filepath.Join(o.Dir, "registry.db"), err)
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if err := s.count(); err != nil {
		return nil, err
	}
	if err := s.findUploads(); err != nil {
		return nil, err
	}
	s.commits = startCommitter(s)
	return s, nil
}

// lockDir takes the folder for this process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid := make([]byte, 20)
		n, _ := f.ReadAt(pid, 0)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the folder %s is in use by another registry (process %s): %w", dir, pid[:n], errdefs.ErrFailedPrecondition)
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	return f, nil
}

// prepare makes the buckets and looks at the version.
func (s *Store) prepare() error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketRepositories, bucketContent, bucketWhere} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		switch v := meta.Get(keySchema); {
		case v == nil:
			return meta.Put(keySchema, []byte(schema))
		case string(v) != schema:
			return fmt.Errorf("the folder %s was written by a newer version (layout %s, this one knows %s): %w", s.dir, v, schema, errdefs.ErrFailedPrecondition)
		}
		return nil
	})
}

// count adds up what is used.
func (s *Store) count() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		err := tx.Bucket(bucketContent).ForEach(func(_, v []byte) error {
			s.total += content(v).size
			return nil
		})
		if err != nil {
			return err
		}
		all := tx.Bucket(bucketRepositories)
		return all.ForEachBucket(func(name []byte) error {
			s.used[string(name)] = int64(number(all.Bucket(name).Get(keySize)))
			return nil
		})
	})
}

// Close ends the store. Calls that are under way fail.
func (s *Store) Close() error {
	s.commits.stop()
	return errors.Join(s.db.Close(), s.lock.Close())
}

// drop removes the files of content that lost its last link, unless it has been linked again since.
func (s *Store) drop(gone []digest.Digest) (freed int64, err error) {
	for _, d := range gone {
		n, rerr := s.removeUnlinked(d)
		freed += n
		err = errors.Join(err, rerr)
	}
	return freed, err
}

func (s *Store) removeUnlinked(d digest.Digest) (int64, error) {
	unlock, err := s.digests.Lock(context.Background(), d.String())
	if err != nil {
		return 0, err
	}
	defer unlock()
	if _, ok := s.has(d); ok {
		return 0, nil
	}
	st, err := os.Stat(s.path(d))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return st.Size(), os.Remove(s.path(d))
}

// entry is a row of the content bucket.
type entry struct{ size, links int64 }

func content(v []byte) entry { return entry{int64(number(v)), int64(number(v[8:]))} }

func (e entry) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(e.size)), uint64(e.links))
}

func number(v []byte) uint64 {
	if len(v) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

func numberBytes(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// explain turns what the disk says into what a client is told.
func explain(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return refusal.Full.New("%s: the registry's disk is full: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
