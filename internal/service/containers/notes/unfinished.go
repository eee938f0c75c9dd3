// Package notes keeps on disk what no record tells of, for the daemon that comes
// after one that was killed: unfinished work, the volumes of containers whose records
// do not outlive a reboot, execs that run, and what a run holds. None of it costs a sync.
package notes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Unfinished tells of creates and removals under way. A create makes layer and volumes before its
// record, a removal deletes them after it. What a daemon that is killed in between leaves has no record
// that would tell of it, so a note does: a file named after the container, with the names of the anonymous
// volumes that belong to what is unfinished, one a line. The next daemon deletes what a note without a record
// names. The notes lie on tmpfs: a reboot takes them along; what they name is then left for fsck,
// unless it is an auto-remove container's (see Owners).
type Unfinished struct {
	Dir string // made with the first note
}

func (u Unfinished) path(container string) string { return filepath.Join(u.Dir, container) }

// Begin begins or extends a container's note.
func (u Unfinished) Begin(container string, volumes ...string) error {
	open := func() (*os.File, error) {
		return os.OpenFile(u.path(container), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	f, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(u.Dir, 0o700); err == nil {
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

// End takes a container's note away, if there is one.
func (u Unfinished) End(container string) error { return remove(u.path(container)) }

// Containers are those that have a note, sorted.
func (u Unfinished) Containers() []string { return list(u.Dir) }

// Volumes are those that a container's note names.
func (u Unfinished) Volumes(container string) ([]string, error) {
	text, err := os.ReadFile(u.path(container))
	return strings.Fields(string(text)), err
}

// remove is content with a file that is not there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// list are the names in a folder, sorted; mostly there are none, nor is the folder.
func list(dir string) []string {
	entries, _ := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
