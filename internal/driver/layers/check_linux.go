package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// archive opens a layer's uncompressed tar stream.
type archive = func(ctx context.Context) (io.ReadCloser, error)

// Check implements images.LayerCheck.
func (s *stacks) Check(ctx context.Context, diff digest.Digest, open archive) (wrong []string, err error) {
	names, release := s.directories(diff)
	defer release()
	if len(names) == 0 {
		return nil, fmt.Errorf("the layer %s is not unpacked: %w", diff, errdefs.ErrNotFound)
	}
	verified := false
	for _, name := range names {
		list, ok, err := s.check(ctx, name, diff, open)
		if err != nil {
			return nil, err
		}
		verified = verified || ok
		wrong = append(wrong, list...)
	}
	if !verified {
		return nil, fmt.Errorf("the layer %s came without a recording of its archive, and its blob is not here: %w", diff, errdefs.ErrUnavailable)
	}
	return wrong, nil
}

// directories are those of a layer, alone and on others, held until release.
func (s *stacks) directories(diff digest.Digest) (names []string, release func()) {
	s.mu.Lock()
	for n, l := range s.layers {
		if n == diff.Encoded() || l.Chain && l.Diff == diff {
			names = append(names, n)
			s.held[n]++
		}
	}
	s.mu.Unlock()
	slices.Sort(names)
	return names, func() { s.hold(names, -1) }
}

// check compares one directory with its archive: made again of its own files, which their checksums prove, or open's.
func (s *stacks) check(ctx context.Context, name string, diff digest.Digest, open archive) (wrong []string, ok bool, err error) {
	own := open == nil
	if own {
		l := s.layer(name)
		if l == nil || !l.Recorded {
			return nil, false, nil
		}
		open = func(context.Context) (io.ReadCloser, error) { return s.openTar(name) }
	}
	list, err := s.compare(ctx, name, diff, open)
	if err != nil && own && ctx.Err() == nil {
		return []string{err.Error()}, true, nil // its files are not what they were
	}
	for _, d := range list {
		wrong = append(wrong, d.String())
	}
	return wrong, true, err
}

func (s *stacks) compare(ctx context.Context, name string, diff digest.Digest, open archive) ([]tarfs.Difference, error) {
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	root, err := tarfs.OpenRoot(s.layerFS(name))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	v := diff.Verifier()
	l := s.layer(name)
	list, err := tarfs.Compare(ctx, root, io.TeeReader(r, v), tarfs.CompareOptions{Alone: l == nil || !l.Chain})
	if err == nil && !v.Verified() {
		err = fmt.Errorf("the archive has another digest than %s: %w", diff, errdefs.ErrDataLoss)
	}
	return list, err
}

// Mend implements images.LayerCheck. What is wrong is replaced in place, so that containers that stand on the layer see it.
func (s *stacks) Mend(ctx context.Context, diff digest.Digest, open archive) error {
	names, release := s.directories(diff)
	defer release()
	for _, name := range names {
		unlock, err := s.locks.Lock(ctx, name)
		if err != nil {
			return err
		}
		err = s.mend(ctx, name, diff, open)
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stacks) mend(ctx context.Context, name string, diff digest.Digest, open archive) error {
	list, err := s.compare(ctx, name, diff, open) // proves the archive before anything is changed by it
	if err != nil {
		return err
	}
	root, err := tarfs.OpenRoot(s.layerFS(name))
	if err != nil {
		return err
	}
	defer root.Close()
	r, err := open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	how := tarfs.Overlay
	if l := s.layer(name); l != nil && l.Chain {
		how = tarfs.Apply
	}
	if err := tarfs.Mend(ctx, root, r, list, tarfs.ExtractOptions{Whiteouts: how}); err != nil {
		return err
	}
	if err := s.record(ctx, name, open); err != nil {
		return err
	}
	return s.syncAll()
}

// record records a layer's archive anew: the recording may be what was damaged.
func (s *stacks) record(ctx context.Context, name string, open archive) error {
	tmp, err := s.temp()
	if err != nil {
		return err
	}
	defer func() { _ = s.trash.discard(tmp) }()
	rec, err := newRecorder(tmp)
	if err != nil {
		return err
	}
	r, err := open(ctx)
	if err != nil {
		_, cerr := rec.close()
		return errors.Join(err, cerr)
	}
	_, err = io.Copy(rec, r)
	recorded, cerr := rec.close()
	if err := errors.Join(err, cerr, r.Close()); err != nil || !recorded {
		return err
	}
	return os.Rename(filepath.Join(tmp, splitFile), filepath.Join(s.dir, "layers", name, splitFile))
}

// Orphans implements images.LayerCheck: directories below layers/ that the store does not know.
func (s *stacks) Orphans() (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if s.layer(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Discard implements images.LayerCheck.
func (s *stacks) Discard(orphan string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.layers[orphan] != nil {
		return nil // it has become a layer
	}
	return s.trash.discard(filepath.Join(s.dir, "layers", filepath.Base(orphan)))
}
