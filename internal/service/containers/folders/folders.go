// Package folders makes and deletes the containers' own folders, below the data root. A few of removed containers are
// kept, empty, for the next ones: a file system takes longer to make and to delete a folder than to give it another name.
package folders

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// Mode is a container's folder's.
const Mode = 0o710

// kept is how many spare ones there are at most.
const kept = 8

// Folders are the folders of one engine's containers.
type Folders struct {
	dir string // of what is deleted and what is spare, on the file system of the others

	mu    sync.Mutex
	made  int
	spare []string
}

// New keeps what is deleted and what is spare in dir, which it makes when it is needed.
func New(dir string) *Folders { return &Folders{dir: dir} }

// Sweep deletes what a former daemon left in there.
func (f *Folders) Sweep() error { return os.RemoveAll(f.dir) }

// Make makes a folder. One that is there is no error.
func (f *Folders) Make(dir string) error {
	if spare := f.take(); spare != "" {
		if os.Rename(spare, dir) == nil {
			return nil
		}
		_ = os.Remove(spare)
	}
	return os.MkdirAll(dir, Mode)
}

func (f *Folders) take() (spare string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := len(f.spare) - 1; last >= 0 {
		spare, f.spare = f.spare[last], f.spare[:last]
	}
	return spare
}

// Away takes a folder out of sight; one that is not there is no error. finish, which may take long, deletes what is in it,
// and the folder itself unless it is kept for the next container. What it leaves, Sweep deletes.
func (f *Folders) Away(dir string) (finish func() error, err error) {
	f.mu.Lock()
	f.made++
	gone := filepath.Join(f.dir, strconv.Itoa(f.made))
	f.mu.Unlock()
	err = os.Rename(dir, gone)
	if errors.Is(err, os.ErrNotExist) {
		if _, serr := os.Lstat(dir); errors.Is(serr, os.ErrNotExist) {
			return func() error { return nil }, nil
		}
		if err = os.MkdirAll(f.dir, Mode); err == nil {
			err = os.Rename(dir, gone)
		}
	}
	return func() error { return f.empty(gone) }, err
}

func (f *Folders) empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err == nil && f.keep(dir) {
		return nil
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// keep makes an empty folder a spare one, and tells whether it did.
func (f *Folders) keep(dir string) bool {
	st, err := os.Lstat(dir)
	if err != nil || st.Mode() != os.ModeDir|Mode {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.spare) >= kept {
		return false
	}
	f.spare = append(f.spare, dir)
	return true
}
