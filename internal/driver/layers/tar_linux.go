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

// archives make layers' archives again, of their files and recordings. It implements recall.Layers.
type archives struct{ *stacks }

// Tar implements recall.Layers.
func (a *archives) Tar(_ context.Context, diff digest.Digest) (io.ReadCloser, error) {
	name, ok := a.holdRecorded(diff)
	if !ok {
		return nil, fmt.Errorf("the layer %s is not here in a form that its archive can be made of: %w", diff, errdefs.ErrNotFound)
	}
	drop := sync.OnceFunc(func() { a.hold([]string{name}, -1) })
	r, err := a.openTar(name)
	if err != nil {
		drop()
		return nil, err
	}
	return &heldStream{r, drop}, nil
}

// Peek implements recall.Layers.
func (a *archives) Peek(_ context.Context, diff digest.Digest) (io.ReadCloser, error) {
	name, ok := a.recorded(diff)
	if !ok {
		return nil, fmt.Errorf("the layer %s is not here in a form that its archive can be made of: %w", diff, errdefs.ErrNotFound)
	}
	return a.openTar(name)
}

// Prove implements recall.Layers.
func (a *archives) Prove(ctx context.Context, diff digest.Digest) error {
	name, ok := a.recorded(diff)
	if !ok {
		return fmt.Errorf("the layer %s has no recording of its archive: %w", diff, errdefs.ErrNotFound)
	}
	err := a.prove(ctx, name, diff)
	if err != nil && a.layer(name) == nil { // it was collected meanwhile
		err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	return err
}

func (a *archives) prove(ctx context.Context, name string, diff digest.Digest) error {
	r, err := a.openTar(name)
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

func (a *archives) openTar(name string) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(a.dir, "layers", name, splitFile))
	if err != nil {
		return nil, err
	}
	return split.Stream(a.layerFS(name), f)
}

// recorded finds the directory of a layer that has a recording.
func (a *archives) recorded(diff digest.Digest) (name string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.findRecorded(diff)
}

// holdRecorded finds the directory of a layer that has a recording, and keeps it from collection.
func (a *archives) holdRecorded(diff digest.Digest) (name string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if name, ok = a.findRecorded(diff); ok {
		a.held[name]++
	}
	return name, ok
}

// findRecorded is recorded; the caller holds mu.
func (a *archives) findRecorded(diff digest.Digest) (name string, ok bool) {
	if l := a.layers[diff.Encoded()]; l != nil && l.Recorded {
		return diff.Encoded(), true
	}
	for n, l := range a.layers {
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
