//go:build linux

package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
)

// journal notes what plugins were asked to make, before they are asked: a file per network, NETWORK.json, and one per
// endpoint, NETWORK.ENDPOINT.json. What no record knows after a crash is deleted by it.
type journal struct{ dir string }

// networkNote is a network that a plugin made, or whose addresses one gave.
type networkNote struct {
	ID     string
	Plugin string    `json:",omitempty"` // of the driver; empty if it is built in
	IPAM   string    `json:",omitempty"` // of the addresses; empty if that is built in
	Pools  []poolRef `json:",omitempty"`
}

// poolRef is a pool as the plugin calls it.
type poolRef struct {
	ID        string
	Subnet    string
	Addresses []string // the gateway and the auxiliary ones, which were asked for
}

// endpointNote is what an endpoint's end needs.
type endpointNote struct {
	Source string `json:",omitempty"` // the interface's name on the host
}

func (j journal) path(parts ...string) string {
	return filepath.Join(j.dir, strings.Join(parts, ".")+".json")
}

func (j journal) save(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return fmt.Errorf("noting what a network plugin makes: %w", err)
	}
	if err := atomicfile.Write(path, text, 0o600); err != nil {
		return fmt.Errorf("noting what a network plugin makes: %w", err)
	}
	return nil
}

// network reads a network's note; an empty one if there is none.
func (j journal) network(id string) (networkNote, error) {
	n := networkNote{ID: id}
	text, err := os.ReadFile(j.path(id))
	if errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	n.ID = id
	return n, err
}

// update changes a network's note.
func (j journal) update(id string, change func(*networkNote)) error {
	n, err := j.network(id)
	if err != nil {
		return err
	}
	change(&n)
	if n.Plugin == "" && n.IPAM == "" {
		return j.dropNetwork(id)
	}
	return j.save(j.path(id), n)
}

func (j journal) dropNetwork(id string) error { return drop(j.path(id)) }

func (j journal) saveEndpoint(network, id string, n endpointNote) error {
	return j.save(j.path(network, id), n)
}

func (j journal) dropEndpoint(network, id string) error { return drop(j.path(network, id)) }

func drop(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// networks lists all notes; one that cannot be read is told.
func (j journal) networks() (out []networkNote, err error) {
	for _, name := range j.names() {
		if strings.Count(name, ".") == 1 {
			n, rerr := j.network(strings.TrimSuffix(name, ".json"))
			if rerr != nil {
				err = errors.Join(err, rerr)
				continue
			}
			out = append(out, n)
		}
	}
	return out, err
}

// endpoints are a network's, by ID.
func (j journal) endpoints(network string) (map[string]endpointNote, error) {
	out := map[string]endpointNote{}
	var errs []error
	for _, name := range j.names() {
		rest, ok := strings.CutPrefix(name, network+".")
		id, isNote := strings.CutSuffix(rest, ".json")
		if !ok || !isNote {
			continue
		}
		text, err := os.ReadFile(filepath.Join(j.dir, name))
		var n endpointNote
		if err == nil {
			err = json.Unmarshal(text, &n)
		}
		errs = append(errs, err)
		out[id] = n
	}
	return out, errors.Join(errs...)
}

func (j journal) names() (out []string) {
	all, _ := os.ReadDir(j.dir) // none before the first note
	for _, e := range all {
		if strings.HasSuffix(e.Name(), ".json") {
			out = append(out, e.Name())
		}
	}
	return out
}
