package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	ccontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/images"
)

// incomingLife is how long a blob that has come in, whole or in part, is kept for a pull that goes on.
const incomingLife = 24 * time.Hour

// incoming is the folder of blobs on their way in:
//
//	<dir>/incoming/<boot ID>/<hex>
//
// They are not synced, so those of a former boot may have holes, and are deleted.
type incoming struct{ dir string }

func openIncoming(dir string) (incoming, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return incoming{}, fmt.Errorf("reading the boot ID: %w", err)
	}
	id := strings.TrimSpace(string(boot))
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return incoming{}, err
	}
	for _, e := range entries {
		if e.Name() != id {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return incoming{}, fmt.Errorf("removing downloads of a former boot: %w", err)
			}
		}
	}
	i := incoming{filepath.Join(dir, id)}
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return incoming{}, fmt.Errorf("making the folder of downloads: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(i.dir, landingPrefix+"*"))
	for _, p := range left { // a former process's
		err = errors.Join(err, os.Remove(p))
	}
	return i, errors.Join(err, i.sweep(time.Now()))
}

// landingPrefix begins the names of files of blobs that have no name yet.
const landingPrefix = "landing-"

func (i incoming) path(d digest.Digest) string { return filepath.Join(i.dir, d.Encoded()) }

// sweep deletes what nobody went on with. What is written to now is younger.
func (i incoming) sweep(now time.Time) error {
	entries, err := os.ReadDir(i.dir)
	errs := []error{err}
	for _, e := range entries {
		if st, err := e.Info(); err == nil && now.Sub(st.ModTime()) > incomingLife {
			errs = append(errs, os.Remove(filepath.Join(i.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Receive opens the file in which a blob comes in, with what is there of it already. Only one may be open for a blob.
func (s *Store) Receive(d digest.Digest) (images.Incoming, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return nil, fmt.Errorf("the digest %q is none of SHA-256: %w", d, errdefs.ErrInvalidArgument)
	}
	f, err := os.OpenFile(s.incoming.path(d), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the file of a download: %w", err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &arriving{File: f, size: end}, nil
}

// Offer makes a blob that is whole, in a file of the same file system, one that has come in: it gives the file a further
// name. The store has it after Adopt.
func (s *Store) Offer(d digest.Digest, path string) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("the digest %q is none of SHA-256: %w", d, errdefs.ErrInvalidArgument)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "blobs", d.Algorithm().String(), d.Encoded())); err == nil {
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

// arriving is the file of a blob on its way in. It implements images.Incoming.
type arriving struct {
	*os.File
	size int64
}

func (a *arriving) Size() int64 { return a.size }

func (a *arriving) Write(p []byte) (int, error) {
	n, err := a.File.Write(p)
	a.size += int64(n)
	return n, err
}

// Reset drops what came in.
func (a *arriving) Reset() error {
	a.size = 0
	_, err := a.Seek(0, io.SeekStart)
	return errors.Join(err, a.Truncate(0))
}

// Discard drops the file.
func (a *arriving) Discard() error {
	a.size = 0
	return errors.Join(a.Truncate(0), os.Remove(a.Name()))
}

// Land implements images.Content.
func (s *Store) Land() (images.Landing, error) {
	f, err := os.CreateTemp(s.incoming.dir, landingPrefix)
	if err != nil {
		return nil, fmt.Errorf("opening a file for a blob: %w", err)
	}
	return &landing{arriving: arriving{File: f}, in: s.incoming}, nil
}

// landing is a blob's file without its name yet. It implements images.Landing.
type landing struct {
	arriving
	in    incoming
	named bool
}

func (l *landing) Named(d digest.Digest) error {
	if err := os.Rename(l.Name(), l.in.path(d)); err != nil {
		return fmt.Errorf("naming the blob %s: %w", d, err)
	}
	l.named = true
	return nil
}

func (l *landing) Close() error {
	if l.named {
		return l.File.Close()
	}
	return errors.Join(l.File.Close(), os.Remove(l.Name()))
}

// Adopt makes blobs that came in, whole and verified, part of the store, in one durable commit: under ctx's lease, with
// their labels. Those that the store has already come under the lease.
func (s *Store) Adopt(ctx context.Context, list []images.Arrival) error {
	for _, a := range list {
		if err := s.syncIncoming(a.Digest); err != nil {
			return err
		}
	}
	failpoint.Hit("gantryd.adopt-synced")
	// Between the move of a file and its record nothing but the lock keeps Collect from it.
	s.adopting.RLock()
	defer s.adopting.RUnlock()
	moved := false
	for _, a := range list {
		if _, ok := s.shelf.get(a.Digest); ok {
			continue // it needs no file
		}
		to := filepath.Join(s.dir, "blobs", a.Digest.Algorithm().String(), a.Digest.Encoded())
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
		if err := syncDir(filepath.Join(s.dir, "blobs", digest.SHA256.String())); err != nil {
			return err
		}
	}
	return s.Update(ctx, func(ctx context.Context) error {
		for _, a := range list {
			if err := s.register(ctx, a); err != nil {
				return fmt.Errorf("storing the blob %s: %w", a.Digest, err)
			}
		}
		return nil
	})
}

// register makes the record of a blob whose file is in its place.
func (s *Store) register(ctx context.Context, a images.Arrival) error {
	if a.Source != "" {
		a.Labels = maps.Clone(a.Labels)
		if a.Labels == nil {
			a.Labels = map[string]string{}
		}
		a.Labels[sourceLabel] = a.Source
	}
	blobs := s.Blobs()
	w, err := blobs.Writer(ctx, ccontent.WithRef("adopt-"+a.Digest.String()), ccontent.WithDescriptor(ocispec.Descriptor{Digest: a.Digest, Size: a.Size}))
	switch {
	case err == nil:
		defer w.Close()
		err = w.Commit(ctx, a.Size, a.Digest, ccontent.WithLabels(a.Labels))
		if !errdefs.IsAlreadyExists(err) {
			return err
		}
	case !errdefs.IsAlreadyExists(err):
		return err
	}
	if len(a.Labels) == 0 {
		return nil
	}
	var fields []string
	for k := range a.Labels {
		fields = append(fields, "labels."+k)
	}
	_, err = blobs.Update(ctx, ccontent.Info{Digest: a.Digest, Labels: a.Labels}, fields...)
	return err
}

func (s *Store) syncIncoming(d digest.Digest) error {
	f, err := os.Open(s.incoming.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the store has it
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func syncDir(p string) error {
	d, err := os.Open(p)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
