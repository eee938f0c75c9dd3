package storage

import (
	"bytes"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"

	"github.com/gantry-engine/gantry/internal/registryserver/manifest"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// Catalog says what is in a store: repositories, tags, manifests, and who refers to whom.
type Catalog struct {
	db *bbolt.DB
}

// Tag is a tag and what it names.
type Tag struct {
	Name   string
	Digest digest.Digest
	At     time.Time // when it was set
}

func tagOf(k, v []byte) Tag {
	return Tag{tagName(k), digest.Digest(v[8:]), time.Unix(int64(number(v)), 0)}
}

// Tags lists up to n tags after last, in an order that does not tell upper and lower case apart, and whether there are more.
func (s *Catalog) Tags(repo, last string, n int) (tags []Tag, more bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		r := lookup(tx, repo)
		if r == nil {
			return refusal.NameUnknown.New("there is no repository %s", repo)
		}
		c := r.Bucket(bucketTags).Cursor()
		for k, v := after(c, string(tagKey(last))); k != nil; k, v = c.Next() {
			if len(tags) == n {
				more = true
				return nil
			}
			tags = append(tags, tagOf(k, v))
		}
		return nil
	})
	return tags, more, err
}

// after puts a cursor behind a key.
func after(c *bbolt.Cursor, last string) (k, v []byte) {
	if last == "" {
		return c.First()
	}
	if k, v = c.Seek([]byte(last)); k != nil && string(k) == last {
		return c.Next()
	}
	return k, v
}

// Repositories lists up to n repositories that have a manifest and that may admits, after last, and whether there are more.
func (s *Catalog) Repositories(last string, n int, may func(string) bool) (names []string, more bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		all := tx.Bucket(bucketRepositories)
		c := all.Cursor()
		for k, _ := after(c, last); k != nil; k, _ = c.Next() {
			if first, _ := all.Bucket(k).Bucket(bucketManifests).Cursor().First(); first == nil || !may(string(k)) {
				continue
			}
			if len(names) == n {
				more = true
				return nil
			}
			names = append(names, string(k))
		}
		return nil
	})
	return names, more, err
}

// maxReferrerBytes bounds the records that one page of referrers is made of: their annotations can be long.
const maxReferrerBytes = 2 << 20

// Referrers lists up to n manifests whose subject is d, after last, of an artifact type unless that is empty, and whether
// there are more. A subject that is not here has none or some, as any other.
func (s *Catalog) Referrers(repo string, d digest.Digest, artifactType string, last digest.Digest, n int) (list []ocispec.Descriptor, more bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		r := lookup(tx, repo)
		if r == nil {
			return nil
		}
		prefix := pair(d, "")
		from := prefix
		if last != "" {
			from = append(pair(d, last), 0)
		}
		bytesOfAll := 0
		c := r.Bucket(bucketReferrers).Cursor()
		for k, _ := c.Seek(from); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			found := digest.Digest(k[len(prefix):])
			v := r.Bucket(bucketManifests).Get([]byte(found))
			rec, err := recordOf(v)
			if err != nil {
				return err
			}
			if artifactType != "" && rec.ArtifactType != artifactType {
				continue
			}
			if bytesOfAll += len(v); len(list) == n || len(list) > 0 && bytesOfAll > maxReferrerBytes {
				more = true
				return nil
			}
			list = append(list, ocispec.Descriptor{MediaType: rec.MediaType, Digest: found, Size: rec.Size, ArtifactType: rec.ArtifactType, Annotations: rec.Annotations})
		}
		return nil
	})
	return list, more, err
}

// Has tells whether there is a repository.
func (s *Catalog) Has(repo string) (ok bool) {
	_ = s.db.View(func(tx *bbolt.Tx) error {
		ok = lookup(tx, repo) != nil
		return nil
	})
	return ok
}

// Detail is a manifest as it is shown to people.
type Detail struct {
	manifest.Manifest
	Digest digest.Digest
	Size   int64 // of the manifest itself
	At     time.Time
	Tags   []string
}

// Detail tells what is known of a manifest.
func (s *Catalog) Detail(repo string, d digest.Digest) (out Detail, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		b := lookup(tx, repo)
		if b == nil {
			return refusal.NameUnknown.New("there is no repository %s", repo)
		}
		v := b.Bucket(bucketManifests).Get([]byte(d))
		if v == nil {
			return unknownManifest(repo, d.String())
		}
		rec, err := recordOf(v)
		r := repository{b: b}
		out = Detail{rec.Manifest, d, rec.Size, rec.At, r.tagsOf(d)}
		return err
	})
	return out, err
}

// Reference finds what a manifest of the repository says of a blob or manifest that it refers to.
func (s *Catalog) Reference(repo string, d digest.Digest) (ref manifest.Reference, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		b := lookup(tx, repo)
		if b == nil {
			return unknownBlob(repo, d)
		}
		user := usedBy(b, d)
		if user == "" {
			return unknownBlob(repo, d)
		}
		rec, err := recordOf(b.Bucket(bucketManifests).Get([]byte(user)))
		for _, r := range rec.References {
			if r.Digest == d {
				ref = r
				return err
			}
		}
		return unknownBlob(repo, d)
	})
	return ref, err
}

// Summary is a repository in a list.
type Summary struct {
	Name  string
	Tags  int
	Bytes int64
	At    time.Time // when a tag was set last
}

// Summaries lists up to n repositories that match admits, after last, and whether there are more.
func (s *Catalog) Summaries(last string, n int, match func(string) bool) (list []Summary, more bool, err error) {
	names, more, err := s.Repositories(last, n, match)
	if err != nil {
		return nil, false, err
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		for _, name := range names {
			r := lookup(tx, name)
			if r == nil {
				continue // gone since
			}
			sum := Summary{Name: name, Bytes: int64(number(r.Get(keySize)))}
			_ = r.Bucket(bucketTags).ForEach(func(k, v []byte) error {
				sum.Tags++
				if at := tagOf(k, v).At; at.After(sum.At) {
					sum.At = at
				}
				return nil
			})
			list = append(list, sum)
		}
		return nil
	})
	return list, more, err
}

// Place is content in a repository.
type Place struct {
	Repository string
	Digest     digest.Digest
	Manifest   bool
}

// Find looks for content by the beginning of its digest, in repositories that may admits; at most n places.
func (s *Catalog) Find(prefix string, n int, may func(string) bool) (list []Place, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketWhere).Cursor()
		for k, _ := c.Seek([]byte(prefix)); bytes.HasPrefix(k, []byte(prefix)) && len(list) < n; k, _ = c.Next() {
			d, repo, _ := bytes.Cut(k, []byte{0})
			if !may(string(repo)) {
				continue
			}
			r := lookup(tx, string(repo))
			list = append(list, Place{string(repo), digest.Digest(d), r != nil && r.Bucket(bucketManifests).Get(d) != nil})
		}
		return nil
	})
	return list, err
}

// has tells whether content is here, for whomever.
func (s *Catalog) has(d digest.Digest) (size int64, ok bool) {
	_ = s.db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketContent).Get([]byte(d)); v != nil {
			size, ok = content(v).size, true
		}
		return nil
	})
	return size, ok
}

// names are all repositories.
func (s *Catalog) names() (names []string) {
	_ = s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketRepositories).ForEachBucket(func(k []byte) error {
			names = append(names, string(k))
			return nil
		})
	})
	return names
}
