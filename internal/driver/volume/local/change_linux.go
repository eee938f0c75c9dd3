package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// The marks of a change that may be half done; see the package's documentation.
const (
	creating = "_creating"
	removing = ".removing-"
)

// Create makes the volume's folder; it is on disk when Create returns. keep, called
// once the record is committed too, takes the mark away; undo removes what was made. A folder
// that is there already, with its content, is taken as it is, and undo spares it.
func (d *Driver) Create(_ context.Context, name string, _ map[string]string) (keep, undo func() error, err error) {
	if err := fileName(name); err != nil {
		return nil, nil, err
	}
	dir, mark := d.dir(name), filepath.Join(d.dir(name), creating)
	// Should the mark come back after a crash: a record says that it is old.
	keep = func() error { return gone(os.Remove(mark)) }
	if _, err := os.Lstat(d.Path(name)); err == nil {
		return keep, nothing, nil
	}
	if err := os.Mkdir(dir, 0o701); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, nil, err
	}
	failpoint.Hit("gantryd.volume-dir")
	err = os.WriteFile(mark, nil, 0o600)
	if err == nil {
		err = os.Mkdir(d.Path(name), 0o755)
	}
	if err == nil {
		err = errors.Join(syncDir(dir), syncDir(d.root))
	}
	if err != nil {
		return nil, nil, errors.Join(err, d.discard(name))
	}
	failpoint.Hit("gantryd.volume-made")
	return keep, func() error { return d.discard(name) }, nil
}

func nothing() error { return nil }

// discard removes a folder whose creation was not finished. It deletes no content:
// rmdir fails where there is some.
func (d *Driver) discard(name string) error {
	mark := filepath.Join(d.dir(name), creating)
	if err := gone(os.Remove(d.Path(name))); err != nil {
		return err
	}
	return errors.Join(gone(os.Remove(mark)), gone(os.Remove(d.dir(name))))
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Remove takes the volume's folder out of sight, durably. keep, called once the record
// is gone too, deletes the content; undo puts it back. Remove refuses while anything is
// mounted in the folder: deleting would go through the mount.
func (d *Driver) Remove(_ context.Context, name string) (keep, undo func() error, err error) {
	if err := fileName(name); err != nil {
		return nil, nil, err
	}
	dir := d.dir(name)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nothing, nothing, nil
	}
	if err := nothingMounted(dir); err != nil {
		return nil, nil, err
	}
	hall, err := os.MkdirTemp(d.root, removing)
	if err != nil {
		return nil, nil, err
	}
	away := filepath.Join(hall, name)
	if err := os.Rename(dir, away); err != nil {
		return nil, nil, errors.Join(err, os.Remove(hall))
	}
	failpoint.Hit("gantryd.volume-away")
	undo = func() error { return errors.Join(os.Rename(away, dir), syncDir(d.root), os.Remove(hall)) }
	if err := errors.Join(syncDir(hall), syncDir(d.root)); err != nil {
		return nil, nil, errors.Join(err, undo())
	}
	return func() error { return os.RemoveAll(hall) }, undo, nil
}

func nothingMounted(dir string) error {
	list, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("a file system is mounted at %s: unmount it first: %w", list[0].Mountpoint, errdefs.ErrConflict)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Sweep finishes what a crash interrupted, and nothing else: creations whose record
// was never committed are undone, removals are finished (or undone, if the record is
// still there), half copies are deleted. kept are folders that look like volumes but
// have no record: their content is left alone.
func (d *Driver) Sweep(ctx context.Context, known func(string) bool) (kept []string, err error) {
	list, err := os.ReadDir(d.root)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range list {
		name := e.Name()
		if context.Cause(ctx) != nil {
			return kept, context.Cause(ctx)
		}
		if !e.IsDir() {
			continue
		}
		if strings.HasPrefix(name, removing) {
			errs = append(errs, d.sweepRemoval(filepath.Join(d.root, name), known))
			continue
		}
		if fileName(name) != nil {
			continue
		}
		if known(name) {
			errs = append(errs, gone(os.Remove(filepath.Join(d.dir(name), creating))), os.RemoveAll(filepath.Join(d.dir(name), filling)))
			continue
		}
		if d.unfinished(name) && d.discard(name) == nil {
			continue
		}
		kept = append(kept, name)
	}
	return kept, errors.Join(errs...)
}

// unfinished tells whether a folder is that of an interrupted creation: it has the
// mark, or not even a folder for content. Both are made before a record can exist.
func (d *Driver) unfinished(name string) bool {
	if _, err := os.Lstat(filepath.Join(d.dir(name), creating)); err == nil {
		return true
	}
	_, err := os.Lstat(d.Path(name))
	return errors.Is(err, fs.ErrNotExist)
}

// sweepRemoval finishes the removal of a volume without a record. With a record the
// removal was not committed: the folder comes back, unless a new one took its place.
func (d *Driver) sweepRemoval(hall string, known func(string) bool) error {
	list, err := os.ReadDir(hall)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !known(e.Name()) {
			continue
		}
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(hall, e.Name()), unix.AT_FDCWD, d.dir(e.Name()), unix.RENAME_NOREPLACE)
		if err == nil {
			err = syncDir(d.root)
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("putting the volume %s back: %w", e.Name(), err)
		}
	}
	if err := nothingMounted(hall); err != nil {
		return err
	}
	if err := os.RemoveAll(hall); err != nil {
		return fmt.Errorf("deleting a removed volume: %w", err)
	}
	return nil
}
