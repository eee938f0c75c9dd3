package storage

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"
)

// Evict removes from the repositories that are spared by Collect what was asked for longest ago, until they take no more than
// room bytes. It gives what was freed on disk.
func (s *Collector) Evict(room int64) (freed int64, err error) {
	type item struct {
		repo     string
		d        digest.Digest
		manifest bool
		size     int64
		at       time.Time
	}
	var items []item
	var used int64
	add := func(i item) {
		if t := s.touched.at(i.repo, i.d); t.After(i.at) {
			i.at = t
		}
		used += i.size
		items = append(items, i)
	}
	for _, name := range s.names() {
		if !s.spare(name) {
			continue
		}
		err := s.db.View(func(tx *bbolt.Tx) error {
			b := lookup(tx, name)
			if b == nil {
				return nil
			}
			err := b.Bucket(bucketBlobs).ForEach(func(k, v []byte) error {
				blob := blobOf(digest.Digest(k), v)
				add(item{name, blob.Digest, false, blob.Size, blob.At})
				return nil
			})
			if err != nil {
				return err
			}
			return b.Bucket(bucketManifests).ForEach(func(k, v []byte) error {
				rec, err := recordOf(v)
				add(item{name, digest.Digest(k), true, rec.Size, rec.At})
				return err
			})
		})
		if err != nil {
			return freed, err
		}
	}
	slices.SortFunc(items, func(a, b item) int { return a.at.Compare(b.at) })
	for _, i := range items {
		if used <= room {
			break
		}
		n, err := s.write("", func(t *txn) ([]digest.Digest, error) {
			b := lookup(t.Tx, i.repo)
			if b == nil {
				return nil, nil
			}
			r := &repository{t, i.repo, b}
			remove := r.unlinkBlob
			if i.manifest {
				remove = r.deleteManifest
			}
			gone, err := remove(i.d)
			if err != nil {
				return nil, err
			}
			return gone, r.tidy()
		})
		if err != nil {
			return freed, err
		}
		used -= i.size
		freed += n
	}
	return freed, nil
}

// Refresh makes blobs and manifests of a repository as young as now, over restarts too.
func (s *Collector) Refresh(repo string, d digest.Digest) error {
	_, err := s.write("", func(t *txn) ([]digest.Digest, error) {
		b := lookup(t.Tx, repo)
		if b == nil {
			return nil, nil
		}
		if v := b.Bucket(bucketBlobs).Get([]byte(d)); v != nil {
			return nil, b.Bucket(bucketBlobs).Put([]byte(d), append(slices.Clone(v[:8]), numberBytes(time.Now().Unix())...))
		}
		v := b.Bucket(bucketManifests).Get([]byte(d))
		if v == nil {
			return nil, nil
		}
		rec, err := recordOf(v)
		if err != nil {
			return nil, err
		}
		rec.At = time.Now().UTC()
		if v, err = rec.bytes(); err != nil {
			return nil, err
		}
		return nil, b.Bucket(bucketManifests).Put([]byte(d), v)
	})
	return err
}
