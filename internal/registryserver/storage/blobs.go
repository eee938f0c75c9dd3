package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// Blob is a blob as a repository sees it.
type Blob struct {
	Digest digest.Digest
	Size   int64
	At     time.Time // when the repository got it
}

func blobOf(d digest.Digest, v []byte) Blob {
	return Blob{d, int64(number(v)), time.Unix(int64(number(v[8:])), 0)}
}

// Blob finds a blob of a repository. Who asks may be about to refer to it: the collector spares it for a while.
func (s *Store) Blob(repo string, d digest.Digest) (b Blob, err error) {
	s.gate.RLock() // between the look and the mark the collector removes nothing
	defer s.gate.RUnlock()
	err = s.db.View(func(tx *bbolt.Tx) error {
		r := lookup(tx, repo)
		if r == nil {
			return unknownBlob(repo, d)
		}
		v := r.Bucket(bucketBlobs).Get([]byte(d))
		if v == nil {
			return unknownBlob(repo, d)
		}
		b = blobOf(d, v)
		s.touched.touch(repo, d)
		return nil
	})
	return b, err
}

// Open opens a blob of a repository. The file has to be closed.
func (s *Store) Open(repo string, d digest.Digest) (*os.File, Blob, error) {
	b, err := s.Blob(repo, d)
	if err != nil {
		return nil, b, err
	}
	f, err := os.Open(s.path(d))
	if err != nil {
		return nil, b, fmt.Errorf("the blob %s of %s is on record and cannot be read; push it again: %w", d, repo, err)
	}
	return f, b, nil
}

func unknownBlob(repo string, d digest.Digest) error {
	return refusal.BlobUnknown.New("the repository %s has no blob %s", repo, d).With(map[string]string{"digest": d.String()})
}

// Mount links a blob of another repository, without a byte sent. An empty from means any repository that may admits.
func (s *Store) Mount(repo, from string, d digest.Digest, may func(repository string) bool) (b Blob, err error) {
	unlock, err := s.digests.Lock(context.Background(), d.String())
	if err != nil {
		return b, err
	}
	defer unlock()
	_, err = s.write("", func(t *txn) ([]digest.Digest, error) {
		source := holder(t.Tx, d, from, may)
		if source == nil {
			return nil, unknownBlob(from, d)
		}
		b = blobOf(d, source.Bucket(bucketBlobs).Get([]byte(d)))
		return nil, t.linkBlob(repo, d, b.Size)
	})
	return b, err
}

// holder finds a repository that has a blob and may be asked for it.
func holder(tx *bbolt.Tx, d digest.Digest, from string, may func(string) bool) *bbolt.Bucket {
	has := func(name string) *bbolt.Bucket {
		if r := lookup(tx, name); r != nil && r.Bucket(bucketBlobs).Get([]byte(d)) != nil && may(name) {
			return r
		}
		return nil
	}
	if from != "" {
		return has(from)
	}
	prefix := pair(d, "")
	c := tx.Bucket(bucketWhere).Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		if r := has(string(k[len(prefix):])); r != nil {
			return r
		}
	}
	return nil
}

// DeleteBlob takes a blob from a repository. One that a manifest of the repository refers to stays.
func (s *Store) DeleteBlob(repo string, d digest.Digest) error {
	_, err := s.write("", func(t *txn) ([]digest.Digest, error) {
		b := lookup(t.Tx, repo)
		if b == nil || b.Bucket(bucketBlobs).Get([]byte(d)) == nil {
			return nil, unknownBlob(repo, d)
		}
		if user := usedBy(b, d); user != "" {
			return nil, refusal.Unsupported.New("the blob %s is a part of the manifest %s of %s: delete the manifest first", d, user, repo)
		}
		r := &repository{t, repo, b}
		gone, err := r.unlinkBlob(d)
		return gone, errors.Join(err, r.tidy())
	})
	return err
}
