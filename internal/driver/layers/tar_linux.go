package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/driver/layers/split"
)

// splitFile is, beside a layer's files, the recording by which its archive can be made again.
const splitFile = "split"

// Tar implements recall.Layers.
func (s *stacks) Tar(_ context.Context, diff digest.Digest) (io.ReadCloser, error) {
	name, ok := s.holdRecorded(diff)
	if !ok {
		return nil, fmt.Errorf("the layer %s is not here in a form that its archive can be made of: %w", diff, errdefs.ErrNotFound)
	}
	drop := sync.OnceFunc(func() { s.hold([]string{name}, -1) })
	r, err := s.openTar(name)
	if err != nil {
		drop()
		return nil, err
	}
	return &heldStream{r, drop}, nil
}

// Prove implements recall.Layers.
func (s *stacks) Prove(ctx context.Context, diff digest.Digest) error {
	name, ok := s.recorded(diff)
	if !ok {
		return fmt.Errorf("the layer %s has no recording of its archive: %w", diff, errdefs.ErrNotFound)
	}
	err := s.prove(ctx, name, diff)
	if err != nil && s.layer(name) == nil { // it was collected meanwhile
		err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	return err
}

func (s *stacks) prove(ctx context.Context, name string, diff digest.Digest) error {
	r, err := s.openTar(name)
	if err != nil {
		return err
	}
	defer r.Close()
	defer context.AfterFunc(ctx, func() { _ = r.Close() })()
	v := diff.Verifier()
	if _, err := io.CopyBuffer(struct{ io.Writer }{v}, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("making the archive of layer %s again: %w: %w", diff, err, errdefs.ErrDataLoss)
	}
	if !v.Verified() {
		return fmt.Errorf("the files of layer %s give an archive with another digest: %w", diff, errdefs.ErrDataLoss)
	}
	return nil
}

func (s *stacks) openTar(name string) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(s.dir, "layers", name, splitFile))
	if err != nil {
		return nil, err
	}
	return split.Stream(s.layerFS(name), f)
}

// recorded finds the directory of a layer that has a recording.
func (s *stacks) recorded(diff digest.Digest) (name string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findRecorded(diff)
}

// holdRecorded finds the directory of a layer that has a recording, and keeps it from collection.
func (s *stacks) holdRecorded(diff digest.Digest) (name string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, ok = s.findRecorded(diff); ok {
		s.held[name]++
	}
	return name, ok
}

// findRecorded is recorded; the caller holds mu.
func (s *stacks) findRecorded(diff digest.Digest) (name string, ok bool) {
	if l := s.layers[diff.Encoded()]; l != nil && l.Recorded {
		return diff.Encoded(), true
	}
	for n, l := range s.layers {
		if l.Recorded && l.Chain && l.Diff == diff {
			return n, true
		}
	}
	return "", false
}

// Hold implements recall.Layers.
func (s *stacks) Hold(diffIDs []digest.Digest) (release func()) {
	if len(diffIDs) == 0 {
		return func() {}
	}
	names := chainNames(diffIDs) // of these the last is the chain, which keeps its directories
	for _, d := range diffIDs {
		names = append(names, d.Encoded())
	}
	s.hold(names, 1)
	return sync.OnceFunc(func() { s.hold(names, -1) })
}

type heldStream struct {
	io.ReadCloser
	drop func()
}

func (h *heldStream) Close() error {
	defer h.drop()
	return h.ReadCloser.Close()
}

// recorder records a layer's archive while it is unpacked below tmp/.
type recorder struct {
	*split.Recorder
	file *os.File
}

func newRecorder(tmp string) (*recorder, error) {
	f, err := os.OpenFile(filepath.Join(tmp, splitFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &recorder{split.Record(f), f}, nil
}

// close ends the recording; without one the layer's blob is what its archive is in.
func (r *recorder) close() (recorded bool, err error) {
	if err := r.Recorder.Close(); err != nil {
		if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
			err = nil
		}
		return false, errors.Join(err, r.file.Close(), os.Remove(r.file.Name()))
	}
	return true, r.file.Close()
}
