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

	"github.com/containerd/containerd/v2/core/metadata"
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
	*records
	*incoming
	*files
	*recipes
}

// Open opens or makes the store below dir. Leases of former processes are
// dropped, and what only they held is deleted by the next Collect.
func Open(ctx context.Context, dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
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
	r := &records{bolt: db, db: mdb, leases: metadata.NewLeaseManager(mdb)}
	if err := blobs.load(r.Context(ctx), r.Blobs()); err != nil {
		return nil, errors.Join(fmt.Errorf("reading which blobs have no file: %w", err), db.Close())
	}
	in, err := openIncoming(filepath.Join(dir, "incoming"))
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	moving := &sync.RWMutex{}
	s := &Store{r, in, &files{r, in, blobs, moving}, &recipes{r, in, blobs, moving}}
	if err := s.takeBack(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("taking back what was not recorded: %w", err), db.Close())
	}
	if err := r.dropLeases(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}
