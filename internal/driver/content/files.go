package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	ccontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/images"
)

// files keeps the files of blobs and their records in step: what came in is adopted, what nothing leads to is collected, and what
// is on one side only is found.
type files struct {
	records  *records
	incoming *incoming
	shelf    *shelf
	moving   *sync.RWMutex // read-held while a file and its record differ, held by who looks at both
}

// Collect deletes every blob that nothing leads to.
func (s *files) Collect(ctx context.Context) error {
	s.moving.Lock()
	defer s.moving.Unlock()
	if _, err := s.records.db.GarbageCollect(s.records.Context(ctx)); err != nil {
		return fmt.Errorf("collecting unused content: %w", err)
	}
	return s.incoming.sweep(time.Now())
}

// Offer makes a blob that is whole, in a file of the same file system, one that has come in: it gives the file a further
// name. The store has it after Adopt.
func (s *files) Offer(d digest.Digest, path string) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("the digest %q is none of SHA-256: %w", d, errdefs.ErrInvalidArgument)
	}
	if _, err := os.Stat(s.shelf.path(d)); err == nil {
		return nil
	}
	tmp := s.incoming.path(d) + ".offer"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(path, tmp); err != nil {
		return fmt.Errorf("taking in the blob %s: %w", d, err)
	}
	return os.Rename(tmp, s.incoming.path(d))
}

// Adopt makes blobs that came in, whole and verified, part of the store, in one durable commit: under ctx's lease, with
// their labels. Those that the store has already come under the lease.
func (s *files) Adopt(ctx context.Context, list []images.Arrival) error {
	for _, a := range list {
		if err := s.incoming.sync(a.Digest); err != nil {
			return err
		}
	}
	failpoint.Hit("gantryd.adopt-synced")
	// Between the move of a file and its record nothing but the lock keeps Collect from it.
	s.moving.RLock()
	defer s.moving.RUnlock()
	moved := false
	for _, a := range list {
		if _, ok := s.shelf.get(a.Digest); ok {
			continue // it needs no file
		}
		to := s.shelf.path(a.Digest)
		err := os.Chmod(s.incoming.path(a.Digest), 0o444)
		if err == nil {
			err = os.Rename(s.incoming.path(a.Digest), to)
			moved = true
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("storing the blob %s: %w", a.Digest, err)
		}
	}
	failpoint.Hit("gantryd.adopt-moved")
	if moved {
		if err := syncDir(filepath.Join(s.shelf.dir, "blobs", digest.SHA256.String())); err != nil {
			return err
		}
	}
	return s.records.Update(ctx, func(ctx context.Context) error {
		for _, a := range list {
			if err := s.records.register(ctx, a); err != nil {
				return fmt.Errorf("storing the blob %s: %w", a.Digest, err)
			}
		}
		return nil
	})
}

// CheckBlob implements images.ContentCheck: it reads a blob's file and compares its digest.
func (s *files) CheckBlob(ctx context.Context, d digest.Digest) error {
	f, err := os.Open(s.shelf.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the file is not there: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	v := d.Verifier()
	buf := make([]byte, 256<<10)
	for {
		n, err := f.Read(buf)
		_, _ = v.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("the file cannot be read: %w: %w", err, errdefs.ErrDataLoss)
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	if !v.Verified() {
		return fmt.Errorf("the file has another digest: %w", errdefs.ErrDataLoss)
	}
	return nil
}

// RestoreBlob implements images.ContentCheck: it puts what r gives in the place of a blob's file, if it has the digest. A blob without a file has one then.
func (s *files) RestoreBlob(ctx context.Context, d digest.Digest, r io.Reader) error {
	f, err := os.CreateTemp(s.incoming.dir, landingPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	v := d.Verifier()
	_, err = io.Copy(io.MultiWriter(f, v), r)
	err = errors.Join(err, f.Chmod(0o444), f.Sync(), f.Close(), context.Cause(ctx))
	if err != nil {
		return err
	}
	if !v.Verified() {
		return fmt.Errorf("what came has another digest than %s: %w", d, errdefs.ErrDataLoss)
	}
	if err := os.Rename(f.Name(), s.shelf.path(d)); err != nil {
		return err
	}
	failpoint.Hit("gantryd.fsck-restored")
	if err := syncDir(filepath.Dir(s.shelf.path(d))); err != nil {
		return err
	}
	if _, dropped := s.shelf.get(d); !dropped {
		return nil
	}
	_, err = s.records.Blobs().Update(s.records.Context(ctx), ccontent.Info{Digest: d, Labels: map[string]string{recipeLabel: ""}}, "labels."+recipeLabel)
	if err == nil {
		s.shelf.unset(d)
	}
	return err
}

// DiscardOrphan implements images.ContentCheck.
func (s *files) DiscardOrphan(ctx context.Context, d digest.Digest) error {
	s.moving.Lock()
	defer s.moving.Unlock()
	if _, err := s.records.Blobs().Info(s.records.Context(ctx), d); err == nil {
		return nil // it has a record by now
	}
	return s.shelf.unlink(d)
}

// takeBack lets files that were moved into the store, and then not recorded because of a crash, come in again.
func (s *files) takeBack(ctx context.Context) error {
	list, err := s.Orphans(ctx)
	for _, d := range list {
		err = errors.Join(err, os.Rename(s.shelf.path(d), s.incoming.path(d)))
	}
	return err
}

// Orphans implements images.ContentCheck: files of blobs that no record knows.
func (s *files) Orphans(ctx context.Context) (list []digest.Digest, err error) {
	s.moving.Lock() // a blob that is being adopted has a file before it has a record
	defer s.moving.Unlock()
	known := map[digest.Digest]bool{}
	err = s.records.Blobs().Walk(s.records.Context(ctx), func(i ccontent.Info) error {
		known[i.Digest] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(s.shelf.dir, "blobs", digest.SHA256.String()))
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if d.Validate() == nil && !known[d] {
			list = append(list, d)
		}
	}
	return list, err
}
