package containers

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// folders are the containers' own ones, below the data root. A few of removed containers are kept, empty, for the
// next ones: a file system takes longer to make and to delete a folder than to give it another name.
type folders struct {
	dir string // of the spare ones, on the file system of the others

	mu    sync.Mutex
	made  int
	spare []string
}

// spareFolders is how many are kept.
const spareFolders = 8

// folderMode is a container's folder's.
const folderMode = 0o710

// sweep deletes what a former daemon kept.
func (f *folders) sweep() error { return os.RemoveAll(f.dir) }

// make makes a container's folder. One that is there is no error.
func (f *folders) make(dir string) error {
	if spare := f.take(); spare != "" {
		if os.Rename(spare, dir) == nil {
			return nil
		}
		_ = os.Remove(spare)
	}
	return os.MkdirAll(dir, folderMode)
}

func (f *folders) take() (spare string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := len(f.spare) - 1; last >= 0 {
		spare, f.spare = f.spare[last], f.spare[:last]
	}
	return spare
}

// delete deletes a folder with all that is in it.
func (f *folders) delete(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err != nil || !f.keep(dir) {
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}

// keep makes an empty folder a spare one, and tells whether it did.
func (f *folders) keep(dir string) bool {
	st, err := os.Lstat(dir)
	if err != nil || st.Mode() != os.ModeDir|folderMode {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.spare) >= spareFolders {
		return false
	}
	f.made++
	spare := filepath.Join(f.dir, strconv.Itoa(f.made))
	err = os.Rename(dir, spare)
	if errors.Is(err, os.ErrNotExist) {
		if os.MkdirAll(f.dir, folderMode) == nil {
			err = os.Rename(dir, spare)
		}
	}
	if err != nil {
		return false
	}
	f.spare = append(f.spare, spare)
	return true
}
