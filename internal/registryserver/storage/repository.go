package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"github.com/gantry-engine/gantry/internal/registryserver/manifest"
)

// Buckets and keys of a repository.
var (
	bucketTags      = []byte("tags")      // tagKey → time, digest
	bucketManifests = []byte("manifests") // digest → record
	bucketBlobs     = []byte("blobs")     // digest → size, time of the link
	bucketUsers     = []byte("users")     // digest NUL digest of the manifest that refers to it → nothing
	bucketReferrers = []byte("referrers") // subject NUL digest → nothing
	keySize         = []byte("size")      // bytes that the repository links to
)

// repository is one repository within a transaction.
type repository struct {
	t    *txn
	name string
	b    *bbolt.Bucket
}

// lookup finds a repository; nil if there is none.
func lookup(tx *bbolt.Tx, name string) *bbolt.Bucket {
	return tx.Bucket(bucketRepositories).Bucket([]byte(name))
}

// repository finds a repository, and makes it where there is none.
func (t *txn) repository(name string) (*repository, error) {
	b, err := t.Bucket(bucketRepositories).CreateBucketIfNotExists([]byte(name))
	if err != nil {
		return nil, err
	}
	if b.Bucket(bucketTags) == nil {
		for _, n := range [][]byte{bucketTags, bucketManifests, bucketBlobs, bucketUsers, bucketReferrers} {
			if _, err := b.CreateBucketIfNotExists(n); err != nil {
				return nil, err
			}
		}
	}
	return &repository{t, name, b}, nil
}

// record is a manifest as the database has it: its media type in a line of its own, which is all that most reads need, then
// the rest as JSON.
type record struct {
	manifest.Manifest
	Size int64     `json:"size"`
	At   time.Time `json:"at"`
}

func (r *record) bytes() ([]byte, error) {
	b, err := json.Marshal(r)
	return append([]byte(r.MediaType+"\n"), b...), err
}

func recordOf(v []byte) (r record, err error) {
	_, rest, _ := bytes.Cut(v, []byte("\n"))
	if err := json.Unmarshal(rest, &r); err != nil {
		return r, fmt.Errorf("a manifest's record cannot be read: %w", err)
	}
	return r, nil
}

func mediaTypeOf(v []byte) string {
	t, _, _ := bytes.Cut(v, []byte("\n"))
	return string(t)
}

func pair(a, b digest.Digest) []byte { return []byte(string(a) + "\x00" + string(b)) }

// tagKey puts tags into the order in which they are listed: a, B, c. Tags have no NUL.
func tagKey(tag string) []byte {
	if tag == "" {
		return nil
	}
	return []byte(strings.ToLower(tag) + "\x00" + tag)
}

func tagName(key []byte) string {
	_, name, _ := strings.Cut(string(key), "\x00")
	return name
}

// link counts a link of the repository to content.
func (r *repository) link(d digest.Digest, size int64) error {
	c := r.t.Bucket(bucketContent)
	e := entry{size: size}
	if v := c.Get([]byte(d)); v != nil {
		e = content(v)
	} else {
		r.t.total += size
	}
	e.links++
	if err := c.Put([]byte(d), e.bytes()); err != nil {
		return err
	}
	if err := r.t.Bucket(bucketWhere).Put(pair(d, digest.Digest(r.name)), nil); err != nil {
		return err
	}
	return r.grow(e.size)
}

// unlink takes a link back, and tells whether it was the last one.
func (r *repository) unlink(d digest.Digest) (last bool, err error) {
	c := r.t.Bucket(bucketContent)
	v := c.Get([]byte(d))
	if v == nil {
		return false, nil
	}
	e := content(v)
	if e.links--; e.links <= 0 {
		r.t.total -= e.size
		err, last = c.Delete([]byte(d)), true
	} else {
		err = c.Put([]byte(d), e.bytes())
	}
	if err != nil {
		return last, err
	}
	if other := r.b.Bucket(bucketBlobs).Get([]byte(d)) != nil || r.b.Bucket(bucketManifests).Get([]byte(d)) != nil; !other {
		if err := r.t.Bucket(bucketWhere).Delete(pair(d, digest.Digest(r.name))); err != nil {
			return last, err
		}
	}
	return last, r.grow(-e.size)
}

func (r *repository) grow(n int64) error {
	r.t.used[r.name] += n
	return r.b.Put(keySize, numberBytes(int64(number(r.b.Get(keySize)))+n))
}

// linkBlob gives the repository a blob, or a new time to one that it has.
func (r *repository) linkBlob(d digest.Digest, size int64, at time.Time) error {
	blobs := r.b.Bucket(bucketBlobs)
	known := blobs.Get([]byte(d)) != nil
	if err := blobs.Put([]byte(d), append(numberBytes(size), numberBytes(at.Unix())...)); err != nil || known {
		return err
	}
	return r.link(d, size)
}

// unlinkBlob takes a blob from the repository.
func (r *repository) unlinkBlob(d digest.Digest) ([]digest.Digest, error) {
	blobs := r.b.Bucket(bucketBlobs)
	if blobs.Get([]byte(d)) == nil {
		return nil, nil
	}
	if err := blobs.Delete([]byte(d)); err != nil {
		return nil, err
	}
	return r.lost(d)
}

func (r *repository) lost(d digest.Digest) ([]digest.Digest, error) {
	if last, err := r.unlink(d); err != nil || !last {
		return nil, err
	}
	return []digest.Digest{d}, nil
}

// putManifest records a manifest. One that is there only becomes younger.
func (r *repository) putManifest(d digest.Digest, rec *record) error {
	manifests := r.b.Bucket(bucketManifests)
	known := manifests.Get([]byte(d)) != nil
	v, err := rec.bytes()
	if err != nil {
		return err
	}
	if err := manifests.Put([]byte(d), v); err != nil || known {
		return err
	}
	for _, ref := range rec.References {
		if err := r.b.Bucket(bucketUsers).Put(pair(ref.Digest, d), nil); err != nil {
			return err
		}
	}
	if rec.Subject != "" {
		if err := r.b.Bucket(bucketReferrers).Put(pair(rec.Subject, d), nil); err != nil {
			return err
		}
	}
	return r.link(d, rec.Size)
}

// deleteManifest removes a manifest and the tags that name it.
func (r *repository) deleteManifest(d digest.Digest) ([]digest.Digest, error) {
	manifests := r.b.Bucket(bucketManifests)
	v := manifests.Get([]byte(d))
	if v == nil {
		return nil, nil
	}
	rec, err := recordOf(v)
	if err != nil {
		return nil, err
	}
	for _, ref := range rec.References {
		if err := r.b.Bucket(bucketUsers).Delete(pair(ref.Digest, d)); err != nil {
			return nil, err
		}
	}
	if rec.Subject != "" {
		if err := r.b.Bucket(bucketReferrers).Delete(pair(rec.Subject, d)); err != nil {
			return nil, err
		}
	}
	for _, tag := range r.tagsOf(d) {
		if err := r.b.Bucket(bucketTags).Delete(tagKey(tag)); err != nil {
			return nil, err
		}
	}
	if err := manifests.Delete([]byte(d)); err != nil {
		return nil, err
	}
	return r.lost(d)
}

func (r *repository) tagsOf(d digest.Digest) (tags []string) {
	_ = r.b.Bucket(bucketTags).ForEach(func(k, v []byte) error {
		if string(v[8:]) == string(d) {
			tags = append(tags, tagName(k))
		}
		return nil
	})
	return tags
}

// usedBy gives a manifest that refers to a digest; empty if there is none.
func usedBy(repo *bbolt.Bucket, d digest.Digest) digest.Digest {
	prefix := append([]byte(d), 0)
	k, _ := repo.Bucket(bucketUsers).Cursor().Seek(prefix)
	if !bytes.HasPrefix(k, prefix) {
		return ""
	}
	return digest.Digest(k[len(prefix):])
}

// tidy removes the repository when nothing is in it.
func (r *repository) tidy() error {
	for _, n := range [][]byte{bucketTags, bucketManifests, bucketBlobs} {
		if k, _ := r.b.Bucket(n).Cursor().First(); k != nil {
			return nil
		}
	}
	return r.t.Bucket(bucketRepositories).DeleteBucket([]byte(r.name))
}
