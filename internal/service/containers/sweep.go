package containers

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// sweep deletes what creates and removals have left that a killed daemon did not finish. known are the
// containers that have a record, readable or not.
func (r *recoverer) sweep(ctx context.Context, known map[string]bool) {
	for _, id := range r.unfinished.Containers() {
		var err error
		if !known[id] {
			err = r.deleteNoted(ctx, id)
		}
		if err = errors.Join(err, r.unfinished.End(id)); err != nil {
			r.log.Warn("what a killed daemon left unfinished could not be deleted", "container", id, "error", err)
		}
	}
	if err := r.folders.Sweep(); err != nil {
		r.log.Warn("spare folders could not be deleted", "error", err)
	}
	r.sweepOwned(ctx, known)
	// Files for mounting, and all files of an auto-remove container, are of no use without a record.
	dir := filepath.Join(r.Config.ExecRoot, "containers")
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if known[f.Name()] {
			continue
		}
		err := r.HostMounts.Unmount(filepath.Join(dir, f.Name(), "shm"))
		if err = errors.Join(err, os.RemoveAll(filepath.Join(dir, f.Name()))); err != nil {
			r.log.Warn("the files of a removed container could not be deleted", "container", f.Name(), "error", err)
		}
	}
}

func (r *recoverer) deleteNoted(ctx context.Context, id string) error {
	volumes, err := r.unfinished.Volumes(id)
	if err != nil {
		return err
	}
	errs := []error{r.Layers.Remove(ctx, id), os.RemoveAll(filepath.Join(r.Config.DataRoot, "containers", id))}
	for _, name := range volumes {
		if err := r.Volumes.Remove(ctx, name, false); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sweepOwned deletes the volumes of auto-remove containers that have no record any more.
func (r *recoverer) sweepOwned(ctx context.Context, known map[string]bool) {
	for _, volume := range r.owners.Volumes() {
		id, err := r.owners.Of(volume)
		if err != nil || known[id] {
			continue
		}
		if err := r.Volumes.Remove(ctx, volume, false); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			r.log.Warn("a removed container's volume could not be deleted", "container", id, "volume", volume, "error", err)
			continue
		}
		if err := r.owners.Drop(volume); err != nil {
			r.log.Warn("a removed container's volume is still noted", "container", id, "volume", volume, "error", err)
		}
	}
}
