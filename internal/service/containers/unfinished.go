package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"

	"github.com/gantry-engine/gantry/internal/spec"
)

// A create makes layer and volumes before its record, a removal deletes them after it. What a daemon
// that is killed in between leaves has no record that would tell of it, so a note does: a
// file below the exec root named after the container, with the names of the anonymous volumes that belong to
// what is unfinished, one a line. The next daemon deletes what a note without a record names. The notes cost no
// sync, and a reboot takes them along; what they name is then left for fsck, unless it is an auto-remove container's
// (owned.go).

func (c *core) notesDir() string { return filepath.Join(c.Config.ExecRoot, "unfinished") }

// unfinished begins or extends a container's note.
func (c *core) unfinished(id string, volumes ...string) error {
	open := func() (*os.File, error) {
		return os.OpenFile(filepath.Join(c.notesDir(), id), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	f, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(c.notesDir(), 0o700); err == nil {
			f, err = open()
		}
	}
	if err != nil {
		return fmt.Errorf("noting what is under way: %w", err)
	}
	for _, v := range volumes {
		if _, werr := f.WriteString(v + "\n"); werr != nil {
			err = errors.Join(err, fmt.Errorf("noting what is under way: %w", werr))
		}
	}
	return errors.Join(err, f.Close())
}

// finished takes a container's note away, if there is one.
func (c *core) finished(id string) error {
	if err := os.Remove(filepath.Join(c.notesDir(), id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// noteRemoval notes what goes with a container, if there is anything that would not be swept anyway.
func (r *remover) noteRemoval(rec *Container, volumes bool) error {
	var names []string
	for _, m := range rec.Mounts {
		if volumes && m.Anonymous && m.Type == mount.TypeVolume {
			names = append(names, m.Name)
		}
	}
	if rec.Volatile && len(names) == 0 {
		return nil
	}
	return r.unfinished(rec.ID, names...)
}

// sweep deletes what creates and removals have left that a killed daemon did not finish. known are the
// containers that have a record, readable or not.
func (r *recoverer) sweep(ctx context.Context, known map[string]bool) {
	notes, _ := os.ReadDir(r.notesDir()) // mostly there are none
	for _, n := range notes {
		id := n.Name()
		var err error
		if !known[id] {
			err = r.deleteNoted(ctx, id)
		}
		if err = errors.Join(err, r.finished(id)); err != nil {
			r.log.Warn("what a killed daemon left unfinished could not be deleted", "container", id, "error", err)
		}
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
	text, err := os.ReadFile(filepath.Join(r.notesDir(), id))
	if err != nil {
		return err
	}
	errs := []error{r.Layers.Remove(ctx, id), os.RemoveAll(filepath.Join(r.Config.DataRoot, "containers", id))}
	for name := range strings.FieldsSeq(string(text)) {
		if err := r.Volumes.Remove(ctx, name, false); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// runNote is what a run holds besides its process. The keeper keeps it for a daemon whose record does not
// know of the run.
type runNote struct {
	Sandbox spec.Sandbox
	Cgroup  spec.Cgroup
}

func noteOf(sb spec.Sandbox, cg spec.Cgroup) ([]byte, error) {
	sb.NetNS = nil
	return json.Marshal(runNote{sb, cg})
}

// readNote gives nil for a note that is none.
func readNote(b []byte) *runNote {
	var n runNote
	if len(b) == 0 || json.Unmarshal(b, &n) != nil {
		return nil
	}
	return &n
}
