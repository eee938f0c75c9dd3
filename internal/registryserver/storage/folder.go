package storage

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// folder is where a store lies, and where in it content lies.
type folder struct{ dir string }

// Dir is the folder.
func (f folder) Dir() string { return f.dir }

// path is where content lies.
func (f folder) path(d digest.Digest) string {
	hex := d.Encoded()
	return filepath.Join(f.dir, "blobs", d.Algorithm().String(), hex[:2], hex)
}

// place renames a synced file to where a digest's content lies. The folder is to be synced before a row speaks of it. The
// caller holds the digest's lock.
func (f folder) place(file string, d digest.Digest) (folder string, err error) {
	path := f.path(d)
	folder = filepath.Dir(path)
	err = os.Rename(file, path)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(folder, 0o750); err != nil {
			return "", err
		}
		if err = syncDir(filepath.Dir(folder)); err != nil {
			return "", err
		}
		if err = syncDir(filepath.Dir(filepath.Dir(folder))); err != nil {
			return "", err
		}
		err = os.Rename(file, path)
	}
	return folder, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
