package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// Upload is a blob on its way in: a file that grows, and the hash of what is in it. It outlives the process: the file's name
// says whose it is, its size how far it got, and the hash is made again when somebody goes on.
type Upload struct {
	s    *Store
	repo string
	id   string
	name string // of the file

	turn chan struct{} // holds one while somebody holds the upload

	mu     sync.Mutex
	cutOff context.CancelCauseFunc // of who holds it
	size   int64
	used   time.Time // last time
	ended  bool      // committed or gone

	// Only who holds the upload has these.
	f      *os.File // open only while somebody does: uploads that nobody goes on with take no descriptor
	hash   hash.Hash
	alg    digest.Algorithm
	hashed int64 // bytes that are in hash
}

// maxUploads bounds the uploads that are known, under way and unfinished.
const maxUploads = 20_000

// buffers are what content is read into.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

func uploadName(repo, id string) string {
	sum := sha256.Sum256([]byte(repo))
	return hex.EncodeToString(sum[:8]) + "-" + id
}

// Begin starts an upload into a repository. alg is the algorithm that the digest will probably have.
func (s *Store) Begin(repo string, alg digest.Algorithm) (*Upload, error) {
	if err := s.room(repo, 0, 1); err != nil {
		return nil, err
	}
	s.umu.Lock()
	n := len(s.uploads)
	s.umu.Unlock()
	if n >= maxUploads {
		return nil, refusal.TooManyRequests.New("%d uploads are under way or lie unfinished, more than are taken: finish or cancel some", n)
	}
	raw := make([]byte, 16)
	_, _ = rand.Read(raw)
	u := s.upload(repo, hex.EncodeToString(raw))
	f, err := os.OpenFile(u.path(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, explain("beginning an upload", err)
	}
	if err := f.Close(); err != nil {
		return nil, explain("beginning an upload", err)
	}
	u.alg, u.hash = alg, alg.Hash()
	s.umu.Lock()
	s.uploads[u.name] = u
	s.umu.Unlock()
	return u, nil
}

func (s *Store) upload(repo, id string) *Upload {
	return &Upload{s: s, repo: repo, id: id, name: uploadName(repo, id), turn: make(chan struct{}, 1), used: time.Now(), alg: digest.SHA256}
}

// Resume finds an upload, also one of a former process.
func (s *Store) Resume(repo, id string) (*Upload, error) {
	s.umu.Lock()
	defer s.umu.Unlock()
	if u := s.uploads[uploadName(repo, id)]; u != nil {
		u.repo, u.id = repo, id // one of a former process learns here whose it is
		return u, nil
	}
	return nil, unknownUpload(id)
}

func unknownUpload(id string) error {
	if len(id) > 64 {
		id = id[:64] + "…"
	}
	return refusal.BlobUploadUnknown.New("there is no upload %q: it was finished, cancelled or given up, or never begun here", id)
}

// findUploads finds what former processes left: uploads that may go on, and files of manifests that may not.
func (s *Store) findUploads() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "uploads"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		if strings.HasPrefix(e.Name(), "manifest-") {
			_ = os.Remove(filepath.Join(s.dir, "uploads", e.Name()))
			continue
		}
		u := s.upload("", "")
		u.name, u.size, u.used = e.Name(), info.Size(), info.ModTime()
		s.uploads[u.name] = u
		s.coming.Add(u.size)
	}
	return nil
}

func (u *Upload) path() string { return filepath.Join(u.s.dir, "uploads", u.name) }

// ID names the upload within its repository.
func (u *Upload) ID() string { return u.id }

// Reader opens what is here for reading while it grows. It stays readable when the upload has become a blob or is gone; of one
// that has, os.ErrNotExist is given.
func (u *Upload) Reader() (*os.File, error) { return os.Open(u.path()) }

// Size is how many bytes are here.
func (u *Upload) Size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.size
}

// Hold gives the upload to the caller alone, until release. Who held it before is cut off, by the end of its context: its client
// has come back over another connection.
func (u *Upload) Hold(ctx context.Context) (held context.Context, release func(), err error) {
	u.mu.Lock()
	if u.cutOff != nil {
		u.cutOff(refusal.BlobUploadInvalid.New("another request went on with this upload"))
	}
	u.mu.Unlock()
	select {
	case u.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	held, cancel := context.WithCancelCause(ctx)
	u.mu.Lock()
	u.cutOff, u.used = cancel, time.Now()
	ended := u.ended
	u.mu.Unlock()
	release = func() {
		u.mu.Lock()
		u.cutOff, u.used = nil, time.Now()
		u.mu.Unlock()
		if u.f != nil {
			_ = u.f.Close() // what is in it is synced where that matters: at its commit
			u.f = nil
		}
		cancel(nil)
		<-u.turn
	}
	if ended {
		release()
		return nil, nil, unknownUpload(u.id)
	}
	if err := u.open(); err != nil {
		release()
		return nil, nil, err
	}
	return held, release, nil
}

func (u *Upload) open() error {
	f, err := os.OpenFile(u.path(), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return explain("going on with an upload", err)
	}
	u.f = f
	return nil
}

// Append adds what r gives. What came before r broke off stays. The caller holds the upload.
func (u *Upload) Append(r io.Reader) (n int64, err error) {
	if u.hash == nil || u.hashed != u.Size() {
		if err := u.hashAgain(u.alg); err != nil {
			return 0, err
		}
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		m, rerr := r.Read(*buf)
		if m > 0 {
			if err := u.add((*buf)[:m]); err != nil {
				return n, err
			}
			n += int64(m)
		}
		switch {
		case errors.Is(rerr, io.EOF):
			return n, nil
		case rerr != nil:
			return n, refusal.BlobUploadInvalid.New("the upload broke off after %d bytes: %w", u.Size(), rerr)
		}
	}
}

// add writes bytes, or none of them.
func (u *Upload) add(b []byte) error {
	size := u.Size()
	if err := u.s.room(u.repo, size, int64(len(b))); err != nil {
		return err
	}
	if _, err := u.f.Write(b); err != nil {
		_ = u.f.Truncate(size)
		return explain("writing an upload", err)
	}
	_, _ = u.hash.Write(b)
	u.hashed += int64(len(b))
	u.mu.Lock()
	u.size += int64(len(b))
	u.used = time.Now()
	u.mu.Unlock()
	u.s.coming.Add(int64(len(b)))
	return nil
}

// hashAgain makes the hash of what is in the file.
func (u *Upload) hashAgain(alg digest.Algorithm) error {
	u.alg, u.hash = alg, alg.Hash()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{u.hash}, struct{ io.Reader }{io.NewSectionReader(u.f, 0, u.Size())}, *buf)
	if err != nil {
		return fmt.Errorf("reading an upload again: %w", err)
	}
	u.hashed = n
	return nil
}

// Commit makes the upload a blob of its repository, if its digest is the one given; else the upload is dropped. When it
// returns the blob is durable. The caller holds the upload.
func (u *Upload) Commit(d digest.Digest) (size int64, err error) {
	if u.hash == nil || u.alg != d.Algorithm() || u.hashed != u.Size() {
		if err := u.hashAgain(d.Algorithm()); err != nil {
			return 0, err
		}
	}
	if got := digest.NewDigest(u.alg, u.hash); got != d {
		err := refusal.DigestInvalid.New("the content's digest is %s, not %s; it has %d bytes", got, d, u.Size())
		return 0, errors.Join(err, u.drop())
	}
	size = u.Size()
	folder := ""
	unlock, err := u.s.digests.Lock(context.Background(), d.String())
	if err != nil {
		return 0, err
	}
	defer unlock()
	if !u.s.whole(d, size) {
		if err := u.f.Sync(); err != nil {
			return 0, explain("writing a blob to disk", err)
		}
		if folder, err = u.s.place(u.path(), d); err != nil {
			return 0, explain("storing a blob", err)
		}
	}
	if _, err = u.s.write(folder, func(t *txn) ([]digest.Digest, error) { return nil, t.linkBlob(u.repo, d, size) }); err != nil {
		if folder == "" {
			return 0, errors.Join(err, u.drop())
		}
		u.forget() // the file has its content's name; the sweep takes it if nobody else links it
		return 0, err
	}
	return size, u.drop()
}

// linkBlob gives a repository a blob within the limits.
func (t *txn) linkBlob(repo string, d digest.Digest, size int64) error {
	r, err := t.repository(repo)
	if err != nil {
		return err
	}
	if err := r.linkBlob(d, size, time.Now()); err != nil {
		return err
	}
	return t.within(repo)
}

// whole tells whether content is on record and on disk in full length.
func (s *Store) whole(d digest.Digest, size int64) bool {
	if n, ok := s.has(d); !ok || n != size {
		return false
	}
	st, err := os.Stat(s.path(d))
	return err == nil && st.Size() == size
}

// Cancel gives the upload up.
func (u *Upload) Cancel() error { return u.drop() }

// drop removes the file, if it is still under its own name. The caller holds the upload.
func (u *Upload) drop() error {
	u.forget()
	if err := os.Remove(u.path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing an upload: %w", err)
	}
	return nil
}

func (u *Upload) forget() {
	u.mu.Lock()
	ended := u.ended
	u.ended = true
	u.mu.Unlock()
	if ended {
		return
	}
	u.s.umu.Lock()
	delete(u.s.uploads, u.name)
	u.s.umu.Unlock()
	u.s.coming.Add(-u.Size())
}

// GiveUp drops uploads that nobody has touched since then, and tells how many there were and what they took.
func (s *Store) GiveUp(before time.Time) (n int, bytes int64) {
	s.umu.Lock()
	var old []*Upload
	for _, u := range s.uploads {
		u.mu.Lock()
		if u.cutOff == nil && u.used.Before(before) {
			old = append(old, u)
		}
		u.mu.Unlock()
	}
	s.umu.Unlock()
	for _, u := range old {
		select {
		case u.turn <- struct{}{}:
			bytes += u.Size()
			n++
			if err := u.drop(); err != nil {
				s.log.Warn("an upload could not be given up", "error", err)
			}
			<-u.turn
		default: // somebody came
		}
	}
	return n, bytes
}
