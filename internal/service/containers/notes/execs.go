package notes

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/moby/api/types/container"
)

// Execs tells of a container's execs that were started, so that the next daemon can inspect them and
// take in their exits: a file each, named after the exec. It needs no sync: it is worth as much as the process.
type Execs struct {
	Dir string // made with the first note, in a folder that is there
}

func (x Execs) path(id string) string { return filepath.Join(x.Dir, id) }

// Add writes down what inspect shows of an exec.
func (x Execs) Add(id string, req container.ExecCreateRequest) error {
	req.Env = nil // nobody is shown it, and it may hold secrets
	data, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if err := os.Mkdir(x.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.WriteFile(x.path(id), data, 0o600)
}

// Drop takes an exec's note away. What cannot be taken away goes with the container's folder.
func (x Execs) Drop(id string) { _ = os.Remove(x.path(id)) }

// IDs are the execs that have a note, sorted.
func (x Execs) IDs() []string { return list(x.Dir) }

// Read gives back what was added.
func (x Execs) Read(id string) (container.ExecCreateRequest, error) {
	var req container.ExecCreateRequest
	data, err := os.ReadFile(x.path(id))
	if err == nil {
		err = json.Unmarshal(data, &req)
	}
	return req, err
}
