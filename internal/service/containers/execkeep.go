package containers

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/service/containers/detach"
	"github.com/gantry-engine/gantry/internal/spec"
)

// A started exec is noted in a file below the exec root, so that the next daemon can
// inspect it and take in its exit. The file needs no sync: it is worth as much as the process.

func (x *execs) noteDir(container string) string {
	return filepath.Join(x.FilesDir(container), "exec")
}

// note writes down what inspect shows of an exec.
func (x *execs) note(p *execProc) {
	req := p.req
	req.Env = nil // nobody is shown it, and it may hold secrets
	data, err := json.Marshal(req)
	if err == nil {
		dir := x.noteDir(p.owner.id)
		if err = os.Mkdir(dir, 0o700); os.IsExist(err) {
			err = nil
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, p.id), data, 0o600)
		}
	}
	if err != nil {
		x.log.Warn("an exec could not be noted: it cannot be inspected after a restart of the engine", "exec", p.id, "error", err)
	}
}

func (x *execs) strike(p *execProc) {
	_ = os.Remove(filepath.Join(x.noteDir(p.owner.id), p.id)) // what stays goes with the container's folder
}

// adopt takes over the execs that a former daemon started in a container that lives on.
// One that has ended meanwhile gets its exit as all do, from the keeper.
func (x *execs) adopt(e *entry, alive map[spec.ProcessKey]spec.Running) {
	files, err := os.ReadDir(x.noteDir(e.id))
	if err != nil {
		return
	}
	for _, f := range files {
		var req container.ExecCreateRequest
		data, err := os.ReadFile(filepath.Join(x.noteDir(e.id), f.Name()))
		if err == nil {
			err = json.Unmarshal(data, &req)
		}
		if err != nil || len(req.Cmd) == 0 {
			x.log.Warn("the note of an exec cannot be read", "exec", f.Name(), "error", err)
			continue
		}
		p := &execProc{id: f.Name(), owner: e, req: req, r: newRun(), begun: true}
		if p.keys, err = detach.Parse(req.DetachKeys); err != nil {
			p.keys = nil
		}
		running, runs := alive[p.key()]
		p.running, p.pid = runs, running.PID
		close(p.r.started)
		x.keep(p)
	}
}
