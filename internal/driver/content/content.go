// Package content keeps blobs by digest, the names of images and leases, with
// containerd's packages in-process: a local content store, metadata in bbolt,
// garbage collection. All live in one namespace below one folder:
//
//	<dir>/blobs/sha256/<hex>   what was verified; see shelf for blobs without a file
//	<dir>/ingest/…             what is being written
//	<dir>/incoming/<boot ID>/  what is being downloaded
//	<dir>/meta.db              names, labels, leases
//
// A blob lives while an image, another blob's label (containerd.io/gc.ref.…) or a
// lease leads to it. Writers hold a lease while they work (Hold), so that what they
// leave behind after a failure or a crash is swept by the next Collect.
package content

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	ccontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Namespace is the containerd namespace of all records.
const Namespace = "gantry"

// leaseLife bounds how long an abandoned lease keeps blobs, if its holder died without a restart of the daemon.
const leaseLife = 24 * time.Hour

// Store is the open content store. Contexts given to its parts have to come from Context.
type Store struct {
	dir      string
	bolt     *bolt.DB
	db       *metadata.DB
	shelf    *shelf
	leases   leases.Manager
	incoming incoming
	adopting sync.RWMutex // read-held from a blob's move to its record, held by Collect
}

// Open opens or makes the store below dir. Leases of former processes are
// dropped, and what only they held is deleted by the next Collect.
func Open(ctx context.Context, dir string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", digest.SHA256.String()), 0o700); err != nil { // Adopt moves files there
		return nil, fmt.Errorf("making the content store: %w", err)
	}
	// containerd's store makes it with the first blob that is written to it; Adopt's are moved there.
	if err := os.MkdirAll(filepath.Join(dir, "blobs", digest.SHA256.String()), 0o755); err != nil {
		return nil, fmt.Errorf("making the content store: %w", err)
	}
	// containerd's packages log through their own global logger; what matters comes back as errors.
	_ = log.SetLevel("error")
	blobs, err := openShelf(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the content store: %w", err)
	}
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o600, &bolt.Options{
		Timeout: 5 * time.Second, NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
	})
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) {
			err = errors.New("another process has it open")
		}
		return nil, fmt.Errorf("opening the content store's records (%s): %w", filepath.Join(dir, "meta.db"), err)
	}
	mdb := metadata.NewDB(db, blobs, nil)
	if err := mdb.Init(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing the content store's records: %w", err), db.Close())
	}
	s := &Store{dir: dir, bolt: db, db: mdb, shelf: blobs, leases: metadata.NewLeaseManager(mdb)}
	if err := blobs.load(s.Context(ctx), s.Blobs()); err != nil {
		return nil, errors.Join(fmt.Errorf("reading which blobs have no file: %w", err), db.Close())
	}
	if s.incoming, err = openIncoming(filepath.Join(dir, "incoming")); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := s.takeBack(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("taking back what was not recorded: %w", err), db.Close())
	}
	if err := s.dropLeases(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func (s *Store) dropLeases(ctx context.Context) error {
	ctx = s.Context(ctx)
	old, err := s.leases.List(ctx)
	if err != nil {
		return fmt.Errorf("listing leases: %w", err)
	}
	for _, l := range old {
		if err := s.leases.Delete(ctx, l); err != nil {
			return fmt.Errorf("dropping an abandoned lease: %w", err)
		}
	}
	return nil
}

// Context gives ctx the namespace that all calls need.
func (s *Store) Context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, Namespace)
}

// Blobs is the content store. Commit of its writers verifies digest and size.
func (s *Store) Blobs() ccontent.Store { return s.db.ContentStore() }

// Images is the store of image names and their targets.
func (s *Store) Images() images.Store { return metadata.NewImageStore(s.db) }

// Leases is the lease manager.
func (s *Store) Leases() leases.Manager { return s.leases }

// Hold makes a lease: what is written with the returned context stays until
// release, which never fails visibly: a lease left over expires.
func (s *Store) Hold(ctx context.Context) (held context.Context, release func(), err error) {
	ctx = s.Context(ctx)
	l, err := s.leases.Create(ctx, leases.WithRandomID(), leases.WithExpiration(leaseLife))
	if err != nil {
		return nil, nil, fmt.Errorf("taking a lease on content: %w", err)
	}
	return leases.WithLease(ctx, l.ID), func() {
		_ = s.leases.Delete(context.WithoutCancel(ctx), l)
	}, nil
}

// Update runs fn in one transaction: every change of names and labels made with
// the context it gets becomes durable together, or not at all.
func (s *Store) Update(ctx context.Context, fn func(context.Context) error) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		return fn(boltutil.WithTransaction(s.Context(ctx), tx))
	})
}

// Collect deletes every blob that nothing leads to.
func (s *Store) Collect(ctx context.Context) error {
	s.adopting.Lock()
	defer s.adopting.Unlock()
	if _, err := s.db.GarbageCollect(s.Context(ctx)); err != nil {
		return fmt.Errorf("collecting unused content: %w", err)
	}
	return s.incoming.sweep(time.Now())
}

// Close closes the records. The store cannot be used afterwards.
func (s *Store) Close() error { return s.db.Close() }
