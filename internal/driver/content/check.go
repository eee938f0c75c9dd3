package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	ccontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// CheckBlob implements images.ContentCheck: it reads a blob's file and compares its digest.
func (s *Store) CheckBlob(ctx context.Context, d digest.Digest) error {
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
func (s *Store) RestoreBlob(ctx context.Context, d digest.Digest, r io.Reader) error {
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
	if err := syncDir(filepath.Dir(s.shelf.path(d))); err != nil {
		return err
	}
	if _, dropped := s.shelf.get(d); !dropped {
		return nil
	}
	_, err = s.Blobs().Update(s.Context(ctx), ccontent.Info{Digest: d, Labels: map[string]string{recipeLabel: ""}}, "labels."+recipeLabel)
	if err == nil {
		s.shelf.unset(d)
	}
	return err
}

// DiscardOrphan implements images.ContentCheck.
func (s *Store) DiscardOrphan(ctx context.Context, d digest.Digest) error {
	s.adopting.Lock()
	defer s.adopting.Unlock()
	if _, err := s.Blobs().Info(s.Context(ctx), d); err == nil {
		return nil // it has a record by now
	}
	return s.shelf.unlink(d)
}

// takeBack lets files that were moved into the store, and then not recorded because of a crash, come in again.
func (s *Store) takeBack(ctx context.Context) error {
	list, err := s.Orphans(ctx)
	for _, d := range list {
		err = errors.Join(err, os.Rename(s.shelf.path(d), s.incoming.path(d)))
	}
	return err
}

// Orphans implements images.ContentCheck: files of blobs that no record knows.
func (s *Store) Orphans(ctx context.Context) (list []digest.Digest, err error) {
	s.adopting.Lock() // a blob that is being adopted has a file before it has a record
	defer s.adopting.Unlock()
	known := map[digest.Digest]bool{}
	err = s.Blobs().Walk(s.Context(ctx), func(i ccontent.Info) error {
		known[i.Digest] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "blobs", digest.SHA256.String()))
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if d.Validate() == nil && !known[d] {
			list = append(list, d)
		}
	}
	return list, err
}

// CheckRecords implements images.ContentCheck: it walks the database of names and labels.
func (s *Store) CheckRecords() (errs []error) {
	_ = s.bolt.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		return nil
	})
	return errs
}
