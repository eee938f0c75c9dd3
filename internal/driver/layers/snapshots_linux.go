package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
)

// Snapshots is the store seen as containerd's Snapshotter: what builds work on.
// Snapshots are directories of their own, below snapshots/; a commit renames nothing and copies
// nothing. A parent may be given as late as at Commit (containerd's rebase contract), so that layers can be unpacked side by side.
type Snapshots struct {
	s   *Store
	dir string
	ms  *storage.MetaStore
}

var _ snapshots.Snapshotter = (*Snapshots)(nil)

// Snapshots opens the Snapshotter. It needs overlayfs.
func (s *Store) Snapshots() (*Snapshots, error) {
	if s.driver != DriverOverlay {
		return nil, fmt.Errorf("snapshots need overlayfs; the store uses the driver %q: %w", s.driver, errdefs.ErrNotImplemented)
	}
	dir := filepath.Join(s.dir, "snapshots")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ms, err := storage.NewMetaStore(filepath.Join(dir, "metadata.db"))
	if err != nil {
		return nil, err
	}
	return &Snapshots{s, dir, ms}, nil
}

func (n *Snapshots) upper(id string) string { return filepath.Join(n.dir, "d", id, "fs") }
func (n *Snapshots) work(id string) string  { return filepath.Join(n.dir, "d", id, "work") }

// Stat implements snapshots.Snapshotter.
func (n *Snapshots) Stat(ctx context.Context, key string) (info snapshots.Info, err error) {
	err = n.ms.WithTransaction(ctx, false, func(ctx context.Context) error {
		_, info, _, err = storage.GetInfo(ctx, key)
		return err
	})
	return info, err
}

// Update implements snapshots.Snapshotter.
func (n *Snapshots) Update(ctx context.Context, info snapshots.Info, fields ...string) (out snapshots.Info, err error) {
	err = n.ms.WithTransaction(ctx, true, func(ctx context.Context) error {
		out, err = storage.UpdateInfo(ctx, info, fields...)
		return err
	})
	return out, err
}

// Usage implements snapshots.Snapshotter.
func (n *Snapshots) Usage(ctx context.Context, key string) (u snapshots.Usage, err error) {
	var info snapshots.Info
	var id string
	err = n.ms.WithTransaction(ctx, false, func(ctx context.Context) error {
		id, info, u, err = storage.GetInfo(ctx, key)
		return err
	})
	if err != nil || info.Kind != snapshots.KindActive {
		return u, err
	}
	du, err := fs.DiskUsage(ctx, n.upper(id))
	return snapshots.Usage(du), err
}

// Mounts implements snapshots.Snapshotter.
func (n *Snapshots) Mounts(ctx context.Context, key string) (m []mount.Mount, err error) {
	err = n.ms.WithTransaction(ctx, false, func(ctx context.Context) error {
		s, err := storage.GetSnapshot(ctx, key)
		if err != nil {
			return fmt.Errorf("mounts of snapshot %s: %w", key, err)
		}
		m = n.mounts(s)
		return nil
	})
	return m, err
}

// Prepare implements snapshots.Snapshotter.
func (n *Snapshots) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return n.create(ctx, snapshots.KindActive, key, parent, opts)
}

// View implements snapshots.Snapshotter.
func (n *Snapshots) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return n.create(ctx, snapshots.KindView, key, parent, opts)
}

func (n *Snapshots) create(ctx context.Context, kind snapshots.Kind, key, parent string, opts []snapshots.Opt) (m []mount.Mount, err error) {
	tmp, err := n.s.temp()
	if err != nil {
		return nil, err
	}
	made := tmp
	defer func() {
		if err != nil {
			err = errors.Join(err, n.s.trash.discard(made))
		}
	}()
	if err := os.Mkdir(filepath.Join(tmp, "fs"), 0o755); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(n.dir, "d"), 0o700); err != nil {
		return nil, err
	}
	err = n.ms.WithTransaction(ctx, true, func(ctx context.Context) error {
		s, err := storage.CreateSnapshot(ctx, kind, key, parent, opts...)
		if err != nil {
			return fmt.Errorf("making snapshot %s: %w", key, err)
		}
		if kind == snapshots.KindActive {
			if err := os.Mkdir(filepath.Join(tmp, "work"), 0o711); err != nil {
				return err
			}
		}
		if len(s.ParentIDs) > 0 {
			if err := likeRoot(filepath.Join(tmp, "fs"), n.upper(s.ParentIDs[0])); err != nil {
				return err
			}
		}
		if err := os.Chmod(tmp, 0o700); err != nil {
			return err
		}
		to := filepath.Join(n.dir, "d", s.ID)
		if err := os.Rename(tmp, to); err != nil {
			return err
		}
		made = to
		m = n.mounts(s)
		return nil
	})
	return m, err
}

func (n *Snapshots) mounts(s storage.Snapshot) []mount.Mount {
	bind := func(id, mode string) []mount.Mount {
		return []mount.Mount{{Type: "bind", Source: n.upper(id), Options: []string{mode, "rbind"}}}
	}
	switch {
	case len(s.ParentIDs) == 0 && s.Kind == snapshots.KindView:
		return bind(s.ID, "ro")
	case len(s.ParentIDs) == 0:
		return bind(s.ID, "rw")
	case len(s.ParentIDs) == 1 && s.Kind == snapshots.KindView:
		return bind(s.ParentIDs[0], "ro")
	}
	var options []string
	if s.Kind == snapshots.KindActive {
		options = append(options, "workdir="+n.work(s.ID), "upperdir="+n.upper(s.ID))
	}
	lower := make([]string, len(s.ParentIDs))
	for i, p := range s.ParentIDs {
		lower[i] = n.upper(p)
	}
	options = append(options, "lowerdir="+strings.Join(lower, ":"))
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: append(options, mountOptions...)}}
}

// Commit implements snapshots.Snapshotter. The snapshot is on disk before its record is.
func (n *Snapshots) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return n.ms.WithTransaction(ctx, true, func(ctx context.Context) error {
		id, _, _, err := storage.GetInfo(ctx, key)
		if err != nil {
			return err
		}
		du, err := fs.DiskUsage(ctx, n.upper(id))
		if err != nil {
			return err
		}
		if err := n.s.syncAll(); err != nil {
			return err
		}
		if _, err := storage.CommitActive(ctx, key, name, snapshots.Usage(du), opts...); err != nil {
			return fmt.Errorf("committing snapshot %s as %s: %w", key, name, err)
		}
		return nil
	})
}

// Remove implements snapshots.Snapshotter.
func (n *Snapshots) Remove(ctx context.Context, key string) error {
	var id string
	err := n.ms.WithTransaction(ctx, true, func(ctx context.Context) (err error) {
		id, _, err = storage.Remove(ctx, key)
		if err != nil {
			return fmt.Errorf("removing snapshot %s: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return n.s.trash.discard(filepath.Join(n.dir, "d", id))
}

// Walk implements snapshots.Snapshotter.
func (n *Snapshots) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	return n.ms.WithTransaction(ctx, false, func(ctx context.Context) error {
		return storage.WalkInfo(ctx, fn, filters...)
	})
}

// Cleanup implements snapshots.Cleaner: it removes directories without a record, left by a crash.
func (n *Snapshots) Cleanup(ctx context.Context) error {
	return n.ms.WithTransaction(ctx, true, func(ctx context.Context) error {
		ids, err := storage.IDMap(ctx)
		if err != nil {
			return err
		}
		entries, err := os.ReadDir(filepath.Join(n.dir, "d"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if _, ok := ids[e.Name()]; !ok {
				if err := n.s.trash.discard(filepath.Join(n.dir, "d", e.Name())); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Close implements snapshots.Snapshotter.
func (n *Snapshots) Close() error { return n.ms.Close() }
