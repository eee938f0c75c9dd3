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

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// health compares layers with their archives, and mends them. It implements images.LayerCheck.
type health struct{ *archives }

// archive opens a layer's uncompressed tar stream.
type archive = func(ctx context.Context) (io.ReadCloser, error)

// Check implements images.LayerCheck.
func (h *health) Check(ctx context.Context, diff digest.Digest, open archive) (wrong []string, err error) {
	names, release := h.directories(diff)
	defer release()
	if len(names) == 0 {
		return nil, fmt.Errorf("the layer %s is not unpacked: %w", diff, errdefs.ErrNotFound)
	}
	verified := false
	for _, name := range names {
		list, ok, err := h.check(ctx, name, diff, open)
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
func (h *health) directories(diff digest.Digest) (names []string, release func()) {
	h.mu.Lock()
	for n, l := range h.layers {
		if n == diff.Encoded() || l.Chain && l.Diff == diff {
			names = append(names, n)
			h.held[n]++
		}
	}
	h.mu.Unlock()
	slices.Sort(names)
	return names, func() { h.hold(names, -1) }
}

// check compares one directory with its archive: made again of its own files, which their checksums prove, or open's.
func (h *health) check(ctx context.Context, name string, diff digest.Digest, open archive) (wrong []string, ok bool, err error) {
	own := open == nil
	if own {
		l := h.layer(name)
		if l == nil || !l.Recorded {
			return nil, false, nil
		}
		open = func(context.Context) (io.ReadCloser, error) { return h.openTar(name) }
	}
	list, err := h.compare(ctx, name, diff, open)
	if err != nil && own && ctx.Err() == nil {
		return []string{err.Error()}, true, nil // its files are not what they were
	}
	for _, d := range list {
		wrong = append(wrong, d.String())
	}
	return wrong, true, err
}

func (h *health) compare(ctx context.Context, name string, diff digest.Digest, open archive) ([]tarfs.Difference, error) {
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	root, err := tarfs.OpenRoot(h.layerFS(name))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	v := diff.Verifier()
	l := h.layer(name)
	list, err := tarfs.Compare(ctx, root, io.TeeReader(r, v), tarfs.CompareOptions{Alone: l == nil || !l.Chain})
	if err == nil && !v.Verified() {
		err = fmt.Errorf("the archive has another digest than %s: %w", diff, errdefs.ErrDataLoss)
	}
	return list, err
}

// Mend implements images.LayerCheck. What is wrong is replaced in place, so that containers that stand on the layer see it.
func (h *health) Mend(ctx context.Context, diff digest.Digest, open archive) error {
	names, release := h.directories(diff)
	defer release()
	for _, name := range names {
		unlock, err := h.locks.Lock(ctx, name)
		if err != nil {
			return err
		}
		err = h.mend(ctx, name, diff, open)
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *health) mend(ctx context.Context, name string, diff digest.Digest, open archive) error {
	list, err := h.compare(ctx, name, diff, open) // proves the archive before anything is changed by it
	if err != nil {
		return err
	}
	root, err := tarfs.OpenRoot(h.layerFS(name))
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
	if l := h.layer(name); l != nil && l.Chain {
		how = tarfs.Apply
	}
	if err := tarfs.Mend(ctx, root, r, list, tarfs.ExtractOptions{Whiteouts: how}); err != nil {
		return err
	}
	failpoint.Hit("gantryd.fsck-mended")
	if err := h.record(ctx, name, open); err != nil {
		return err
	}
	failpoint.Hit("gantryd.fsck-recorded")
	return h.syncAll()
}

// record records a layer's archive anew: the recording may be what was damaged.
func (h *health) record(ctx context.Context, name string, open archive) error {
	tmp, err := h.temp()
	if err != nil {
		return err
	}
	defer func() { _ = h.trash.discard(tmp) }()
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
	return os.Rename(filepath.Join(tmp, splitFile), filepath.Join(h.dir, "layers", name, splitFile))
}

// Orphans implements images.LayerCheck: directories below layers/ that the store does not know.
func (h *health) Orphans() (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(h.dir, "layers"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if h.layer(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Discard implements images.LayerCheck.
func (h *health) Discard(orphan string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.layers[orphan] != nil {
		return nil // it has become a layer
	}
	return h.trash.discard(filepath.Join(h.dir, "layers", filepath.Base(orphan)))
}
