package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"github.com/gantry-engine/gantry/internal/registryserver/manifest"
)

// Collector removes from a store what is no longer needed.
type Collector struct {
	*Store
}

// Collector gives the store's collector.
func (s *Store) Collector() *Collector { return &Collector{s} }

// Policy says what Collect may remove.
type Policy struct {
	// Grace is how old something has to be, and how long nobody may have asked for it.
	Grace time.Duration
	// Untagged lets manifests go that neither a tag nor an index nor a kept subject leads to. Without it all manifests stay.
	Untagged bool
	// Uploads is how long an upload may lie without a byte more; 0 keeps them.
	Uploads time.Duration
	// DryRun only tells.
	DryRun bool
}

// Collected is what Collect removed, or would have.
type Collected struct {
	Manifests []string // repository@digest
	Blobs     []string
	Files     int   // content without a link
	Uploads   int   // given up
	Bytes     int64 // freed
}

// Collect removes what nothing leads to: blobs that no manifest of their repository refers to, manifests by policy, uploads that
// were given up, files that no row speaks of. It runs beside pushes: what it removes from a repository is decided anew within
// the commit that removes it, and what a client was told is here within the grace time stays.
func (s *Collector) Collect(ctx context.Context, p Policy) (out Collected, err error) {
	for _, name := range s.names() {
		if err := ctx.Err(); err != nil {
			return out, context.Cause(ctx)
		}
		if s.spare(name) {
			continue
		}
		if err := s.collectRepository(name, p, &out); err != nil {
			return out, err
		}
	}
	if !p.DryRun {
		files, bytes, err := s.Sweep(ctx)
		out.Files += files
		out.Bytes += bytes
		if err != nil {
			return out, err
		}
		if p.Uploads > 0 {
			n, bytes := s.GiveUp(time.Now().Add(-p.Uploads))
			out.Uploads += n
			out.Bytes += bytes
		}
	}
	return out, nil
}

// plan is what may go from one repository.
type plan struct {
	manifests, blobs []digest.Digest
	bytes            int64 // of what no other repository has
}

func (s *Collector) collectRepository(name string, p Policy, out *Collected) error {
	before := time.Now().Add(-p.Grace)
	var found plan
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		found, err = s.dead(tx, name, before, p.Untagged)
		return err
	})
	if err != nil || len(found.manifests)+len(found.blobs) == 0 {
		return err
	}
	if !p.DryRun {
		s.gate.Lock()
		defer s.gate.Unlock()
		freed, err := s.write("", func(t *txn) (gone []digest.Digest, err error) {
			if found, err = s.dead(t.Tx, name, before, p.Untagged); err != nil { // what came since then stays
				return nil, err
			}
			b := lookup(t.Tx, name)
			if b == nil {
				return nil, nil
			}
			r := &repository{t, name, b}
			for _, d := range found.manifests {
				g, err := r.deleteManifest(d)
				if err != nil {
					return nil, err
				}
				gone = append(gone, g...)
			}
			for _, d := range found.blobs {
				g, err := r.unlinkBlob(d)
				if err != nil {
					return nil, err
				}
				gone = append(gone, g...)
			}
			return gone, r.tidy()
		})
		if err != nil {
			return err
		}
		found.bytes = freed
	}
	out.Bytes += found.bytes
	for _, d := range found.manifests {
		out.Manifests = append(out.Manifests, name+"@"+d.String())
	}
	for _, d := range found.blobs {
		out.Blobs = append(out.Blobs, name+"@"+d.String())
	}
	return nil
}

// dead marks what a repository's tags lead to, and gives the rest, as far as it is old enough.
func (s *Collector) dead(tx *bbolt.Tx, name string, before time.Time, untagged bool) (p plan, err error) {
	b := lookup(tx, name)
	if b == nil {
		return p, nil
	}
	old := func(d digest.Digest, at time.Time) bool {
		if t := s.touched.at(name, d); t.After(at) {
			at = t
		}
		return at.Before(before)
	}
	records := map[digest.Digest]record{}
	err = b.Bucket(bucketManifests).ForEach(func(k, v []byte) error {
		rec, err := recordOf(v)
		records[digest.Digest(k)] = rec
		return err
	})
	if err != nil {
		return p, err
	}
	marked := s.mark(b, records, old, untagged)
	needed := map[digest.Digest]bool{}
	for d, rec := range records {
		if !marked[d] {
			p.manifests = append(p.manifests, d)
			p.bytes += onlyHere(tx, d)
			continue
		}
		for _, ref := range rec.References {
			needed[ref.Digest] = true
		}
	}
	err = b.Bucket(bucketBlobs).ForEach(func(k, v []byte) error {
		d := digest.Digest(k)
		if blob := blobOf(d, v); !needed[d] && old(d, blob.At) {
			p.blobs = append(p.blobs, d)
			p.bytes += onlyHere(tx, d)
		}
		return nil
	})
	return p, err
}

// onlyHere is the size of content that has one link.
func onlyHere(tx *bbolt.Tx, d digest.Digest) int64 {
	if v := tx.Bucket(bucketContent).Get([]byte(d)); v != nil && content(v).links == 1 {
		return content(v).size
	}
	return 0
}

// mark finds the manifests that stay: tagged ones, young ones, what a kept index refers to, and what refers to a kept subject.
// A signature or a bill of materials of something that is not here is kept as long as any untagged manifest.
func (s *Collector) mark(b *bbolt.Bucket, records map[digest.Digest]record, old func(digest.Digest, time.Time) bool, untagged bool) map[digest.Digest]bool {
	marked := map[digest.Digest]bool{}
	referrers := map[digest.Digest][]digest.Digest{}
	for d, rec := range records {
		if rec.Subject != "" {
			referrers[rec.Subject] = append(referrers[rec.Subject], d)
		}
	}
	var todo []digest.Digest
	keep := func(d digest.Digest) {
		if _, here := records[d]; here && !marked[d] {
			marked[d] = true
			todo = append(todo, d)
		}
	}
	_ = b.Bucket(bucketTags).ForEach(func(_, v []byte) error {
		keep(digest.Digest(v[8:]))
		return nil
	})
	for d, rec := range records {
		if !untagged || !old(d, rec.At) {
			keep(d)
		}
	}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, ref := range records[d].References {
			if ref.Kind == manifest.Child {
				keep(ref.Digest)
			}
		}
		for _, r := range referrers[d] {
			keep(r)
		}
	}
	return marked
}

// Sweep removes files of content that no row speaks of: what a kill left between rename and commit, or commit and removal.
func (s *Collector) Sweep(ctx context.Context) (n int, bytes int64, err error) {
	err = filepath.WalkDir(filepath.Join(s.dir, "blobs"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return errors.Join(err, context.Cause(ctx))
		}
		d := digest.NewDigestFromEncoded(digest.Algorithm(filepath.Base(filepath.Dir(filepath.Dir(path)))), e.Name())
		if d.Validate() != nil {
			return nil // not ours
		}
		if _, ok := s.has(d); ok {
			return nil
		}
		freed, err := s.removeUnlinked(d)
		if freed > 0 {
			n++
			bytes += freed
		}
		return err
	})
	return n, bytes, err
}

// Check reads everything and tells what is wrong: rows without a file, files whose content is not what their name says.
func (s *Collector) Check(ctx context.Context) (problems []string, err error) {
	var all []digest.Digest
	if err := s.db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			problems = append(problems, err.Error())
		}
		return tx.Bucket(bucketContent).ForEach(func(k, _ []byte) error {
			all = append(all, digest.Digest(k))
			return nil
		})
	}); err != nil {
		return problems, err
	}
	for _, d := range all {
		if ctx.Err() != nil {
			return problems, context.Cause(ctx)
		}
		f, err := os.Open(s.path(d))
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		got, err := d.Algorithm().FromReader(f)
		_ = f.Close()
		if err != nil || got != d {
			problems = append(problems, s.path(d)+": the content is not what the name says")
		}
	}
	return problems, nil
}
