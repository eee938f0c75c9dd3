package notes

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Owners tells whose the anonymous volumes of auto-remove containers are. The record of such a container
// does not outlive a reboot, its volumes would: they are ordinary volumes on disk. So each has a link, named after
// the volume and pointing to the container's ID. It is made before the volume: the volume's commit, in the same file
// system's journal, carries it to disk with no sync of its own, and a link needs no data block that could come later.
type Owners struct {
	Dir string // in the volumes' file system; made with the first link
}

func (o Owners) path(volume string) string { return filepath.Join(o.Dir, volume) }

// Set notes that a volume goes with a container.
func (o Owners) Set(volume, container string) error {
	err := os.Symlink(container, o.path(volume))
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(o.Dir, 0o700); err == nil {
			err = os.Symlink(container, o.path(volume))
		}
	}
	return err
}

// Drop takes a volume's link away, if there is one.
func (o Owners) Drop(volume string) error { return remove(o.path(volume)) }

// Volumes are those that have a link, sorted.
func (o Owners) Volumes() []string { return list(o.Dir) }

// Of is the container that a volume goes with.
func (o Owners) Of(volume string) (container string, err error) { return os.Readlink(o.path(volume)) }
