package containers

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
)

// The record of an auto-remove container does not outlive a reboot, its anonymous volumes would: they are
// ordinary volumes on disk. So each has a link below the data root, named after the volume and pointing to the
// container's ID. It is made before the volume: the volume's commit, in the same file system's journal, carries it to disk
// with no sync of its own, and a link needs no data block that could come later.

func (c *core) ownedDir() string { return filepath.Join(c.Config.DataRoot, "auto-remove-volumes") }

// own notes that an anonymous volume goes with an auto-remove container.
func (c *core) own(id, volume string) error {
	err := os.Symlink(id, filepath.Join(c.ownedDir(), volume))
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(c.ownedDir(), 0o700); err == nil {
			err = os.Symlink(id, filepath.Join(c.ownedDir(), volume))
		}
	}
	return err
}

// disown takes a container's links away.
func (c *core) disown(rec *Container) error {
	if !rec.Volatile {
		return nil
	}
	var errs []error
	for _, m := range rec.Mounts {
		if m.Anonymous && m.Type == mount.TypeVolume {
			if err := os.Remove(filepath.Join(c.ownedDir(), m.Name)); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// sweepOwned deletes the volumes of auto-remove containers that have no record any more.
func (r *recoverer) sweepOwned(ctx context.Context, known map[string]bool) {
	links, _ := os.ReadDir(r.ownedDir()) // mostly there are none
	for _, l := range links {
		link := filepath.Join(r.ownedDir(), l.Name())
		id, err := os.Readlink(link)
		if err != nil || known[id] {
			continue
		}
		if err := r.Volumes.Remove(ctx, l.Name(), false); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			r.log.Warn("a removed container's volume could not be deleted", "container", id, "volume", l.Name(), "error", err)
			continue
		}
		if err := os.Remove(link); err != nil {
			r.log.Warn("a removed container's volume is still noted", "container", id, "volume", l.Name(), "error", err)
		}
	}
}
