package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/cli/ref"
)

// Entry is one manifest of a list, as docker's command line stores it.
type Entry struct {
	Ref              string // the name that it was fetched by, in full
	Descriptor       ocispec.Descriptor
	Raw              []byte          `json:",omitempty"` // the manifest's bytes
	SchemaV2Manifest json.RawMessage `json:",omitempty"` // the same as JSON, of Docker's type
	OCIManifest      json.RawMessage `json:",omitempty"` // or of OCI's
}

// Store is the manifest lists below the client's directory:
//
//	manifests/<name of the list>/<name of the entry>
//
// with ":" as "-" and "/" as "_". A list's order is that of its files' names.
type Store struct {
	Dir string // the client's directory
}

// maxEntry bounds a file of the store, in bytes: a manifest has at most 4 MiB, and is in it twice.
const maxEntry = 16 << 20

func safe(r ref.Ref) string { return strings.NewReplacer(":", "-", "/", "_").Replace(r.String()) }

func (s Store) root() string             { return filepath.Join(s.Dir, "manifests") }
func (s Store) folder(l ref.Ref) string  { return filepath.Join(s.root(), safe(l)) }
func (s Store) file(l, m ref.Ref) string { return filepath.Join(s.folder(l), safe(m)) }

// List gives the entries of a list. One that is not there is an error that wraps fs.ErrNotExist.
func (s Store) List(list ref.Ref) ([]Entry, error) {
	files, err := os.ReadDir(s.folder(list))
	if err != nil {
		return nil, err
	}
	out := make([]Entry, 0, len(files))
	for _, f := range files {
		e, err := read(filepath.Join(s.folder(list), f.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// Get gives an entry of a list.
func (s Store) Get(list, manifest ref.Ref) (Entry, error) { return read(s.file(list, manifest)) }

func read(path string) (e Entry, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return e, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxEntry {
		return e, fmt.Errorf("%s is no entry of a manifest list", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("the entry of a manifest list %s is not to be read: %w (remove it, or the whole list with 'manifest rm')", path, err)
	}
	return e, nil
}

// Save adds entries to a list, all of them or none; those of the same names are replaced. A list that is not there is made.
func (s Store) Save(list ref.Ref, entries map[ref.Ref]Entry) error {
	if err := os.MkdirAll(s.root(), 0o755); err != nil {
		return err
	}
	s.sweep()
	stage, err := os.MkdirTemp(s.root(), staged)
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	for name, e := range entries {
		if err := write(filepath.Join(stage, safe(name)), e); err != nil {
			return err
		}
	}
	if err := os.Chmod(stage, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(s.folder(list)); errors.Is(err, fs.ErrNotExist) {
		return os.Rename(stage, s.folder(list))
	}
	for name := range entries {
		if err := os.Rename(filepath.Join(stage, safe(name)), s.file(list, name)); err != nil {
			return err
		}
	}
	return nil
}

// staged are folders of entries that are on their way into a list.
const staged = ".new-"

// sweep removes what was left by a program that was killed.
func (s Store) sweep() {
	left, _ := filepath.Glob(filepath.Join(s.root(), staged+"*"))
	for _, dir := range left {
		if st, err := os.Stat(dir); err == nil && time.Since(st.ModTime()) > time.Hour {
			_ = os.RemoveAll(dir) // it is in nobody's way
		}
	}
}

func write(path string, e Entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// Remove removes a list. One that is not there is an error that wraps fs.ErrNotExist.
func (s Store) Remove(list ref.Ref) error {
	if _, err := os.Stat(s.folder(list)); err != nil {
		return err
	}
	return os.RemoveAll(s.folder(list))
}
