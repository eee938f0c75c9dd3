package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"github.com/gantry-engine/gantry/internal/registryserver/manifest"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// Stored is a manifest as it was pushed.
type Stored struct {
	Digest    digest.Digest
	MediaType string
	Body      []byte
}

// Manifest finds a manifest of a repository by tag or digest.
func (s *Store) Manifest(repo, reference string) (m Stored, err error) {
	if m, err = s.named(repo, reference); err != nil {
		return m, err
	}
	m.Body, err = s.body(m.Digest)
	return m, err
}

// named finds what a manifest is, without its content.
func (s *Store) named(repo, reference string) (m Stored, err error) {
	s.gate.RLock() // between the look and the mark the collector removes nothing
	defer s.gate.RUnlock()
	err = s.db.View(func(tx *bbolt.Tx) error {
		r := lookup(tx, repo)
		if r == nil {
			return refusal.NameUnknown.New("there is no repository %s", repo)
		}
		d := digest.Digest(reference)
		if !naming.IsDigest(reference) {
			v := r.Bucket(bucketTags).Get(tagKey(reference))
			if v == nil {
				return unknownManifest(repo, reference)
			}
			d = digest.Digest(v[8:])
		}
		v := r.Bucket(bucketManifests).Get([]byte(d))
		if v == nil {
			return unknownManifest(repo, reference)
		}
		m.Digest, m.MediaType = d, mediaTypeOf(v)
		s.touched.touch(repo, d)
		return nil
	})
	return m, err
}

func unknownManifest(repo, reference string) error {
	return refusal.ManifestUnknown.New("the repository %s has no manifest %s", repo, reference).With(map[string]string{"name": repo, "reference": reference})
}

// body reads a manifest's content.
func (s *Store) body(d digest.Digest) ([]byte, error) {
	if b, ok := s.bodies.get(d); ok {
		return b, nil
	}
	b, err := os.ReadFile(s.path(d))
	if err != nil {
		return nil, fmt.Errorf("the manifest %s is on record and cannot be read; push it again: %w", d, err)
	}
	if d.Algorithm().FromBytes(b) != d {
		return nil, fmt.Errorf("the manifest %s was damaged on disk; push it again", d)
	}
	s.bodies.put(d, b)
	return b, nil
}

// Put is a manifest to be stored.
type Put struct {
	Repository string
	Tag        string        // empty: none
	Digest     digest.Digest // of Body
	Body       []byte
	Parsed     *manifest.Manifest
	// Incomplete stores a manifest whose parts are not here: a cache fetches them when they are asked for.
	Incomplete bool
}

// PutManifest stores a manifest, if all that it refers to is in its repository. It is durable when the call returns.
func (s *Store) PutManifest(p Put) error {
	size := int64(len(p.Body))
	if err := s.room(p.Repository, 0, size); err != nil {
		return err
	}
	unlock, err := s.digests.Lock(context.Background(), p.Digest.String())
	if err != nil {
		return err
	}
	defer unlock()
	folder := ""
	if !s.whole(p.Digest, size) {
		if folder, err = s.writeContent(p.Digest, p.Body); err != nil {
			return explain("storing a manifest", err)
		}
	}
	_, err = s.write(folder, func(t *txn) ([]digest.Digest, error) { return nil, t.putManifest(p) })
	if err != nil && folder != "" {
		if _, ok := s.has(p.Digest); !ok {
			_ = os.Remove(s.path(p.Digest))
		}
	}
	return err
}

// writeContent writes a small content durably but for its folder.
func (s *Store) writeContent(d digest.Digest, b []byte) (folder string, err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, "uploads"), "manifest-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return s.place(f.Name(), d)
}

func (t *txn) putManifest(p Put) error {
	r, err := t.repository(p.Repository)
	if err != nil {
		return err
	}
	if !p.Incomplete {
		if err := r.complete(p.Parsed); err != nil {
			return err
		}
	}
	rec := &record{Manifest: *p.Parsed, Size: int64(len(p.Body)), At: time.Now().UTC()}
	if err := r.putManifest(p.Digest, rec); err != nil {
		return err
	}
	if p.Tag != "" {
		v := append(numberBytes(time.Now().Unix()), []byte(p.Digest)...)
		if err := r.b.Bucket(bucketTags).Put(tagKey(p.Tag), v); err != nil {
			return err
		}
	}
	return t.within(p.Repository)
}

// complete refuses a manifest that refers to what is not in the repository.
func (r *repository) complete(m *manifest.Manifest) error {
	blobs, manifests := r.b.Bucket(bucketBlobs), r.b.Bucket(bucketManifests)
	for _, ref := range m.References {
		in := blobs
		if ref.Kind == manifest.Child {
			in = manifests
		}
		v := in.Get([]byte(ref.Digest))
		switch {
		case v == nil && ref.Elsewhere:
		case v == nil:
			return refusal.ManifestBlobUnknown.New("the manifest refers to the %s %s, which the repository %s does not have: push it first", ref.Kind, ref.Digest, r.name).
				With(map[string]string{"digest": ref.Digest.String()})
		case ref.Kind != manifest.Child && int64(number(v)) != ref.Size:
			return refusal.ManifestInvalid.New("the manifest says that the %s %s has %d bytes; it has %d", ref.Kind, ref.Digest, ref.Size, number(v))
		}
	}
	return nil
}

// DeleteManifest removes a manifest with its tags. One that an index refers to stays.
func (s *Store) DeleteManifest(repo string, d digest.Digest) (tags []string, err error) {
	_, err = s.write("", func(t *txn) ([]digest.Digest, error) {
		r, err := t.existing(repo)
		if err != nil {
			return nil, err
		}
		if r.b.Bucket(bucketManifests).Get([]byte(d)) == nil {
			return nil, unknownManifest(repo, d.String())
		}
		if user := usedBy(r.b, d); user != "" {
			return nil, refusal.Unsupported.New("the manifest %s is a part of the index %s of %s: delete the index first", d, user, repo)
		}
		tags = r.tagsOf(d)
		gone, err := r.deleteManifest(d)
		return gone, errors.Join(err, r.tidy())
	})
	return tags, err
}

// DeleteTag removes a tag; what it named stays.
func (s *Store) DeleteTag(repo, tag string) error {
	_, err := s.write("", func(t *txn) ([]digest.Digest, error) {
		r, err := t.existing(repo)
		if err != nil {
			return nil, err
		}
		tags := r.b.Bucket(bucketTags)
		if tags.Get(tagKey(tag)) == nil {
			return nil, unknownManifest(repo, tag)
		}
		return nil, errors.Join(tags.Delete(tagKey(tag)), r.tidy())
	})
	return err
}

func (t *txn) existing(name string) (*repository, error) {
	b := lookup(t.Tx, name)
	if b == nil {
		return nil, refusal.NameUnknown.New("there is no repository %s", name)
	}
	return &repository{t, name, b}, nil
}
