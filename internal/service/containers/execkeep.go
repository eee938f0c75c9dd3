package containers

import (
	"path/filepath"

	"github.com/gantry-engine/gantry/internal/service/containers/detach"
	"github.com/gantry-engine/gantry/internal/service/containers/notes"
	"github.com/gantry-engine/gantry/internal/spec"
)

// notes are those of a container's execs.
func (x *execs) notes(container string) notes.Execs {
	return notes.Execs{Dir: filepath.Join(x.Config.filesDir(container), "exec")}
}

// note writes a started exec down for the next daemon.
func (x *execs) note(p *execProc) {
	if err := x.notes(p.owner.id).Add(p.id, p.req); err != nil {
		x.log.Warn("an exec could not be noted: it cannot be inspected after a restart of the engine", "exec", p.id, "error", err)
	}
}

// adopt takes over the execs that a former daemon started in a container that lives on.
// One that has ended meanwhile gets its exit as all do, from the keeper.
func (x *execs) adopt(e *entry, alive map[spec.ProcessKey]spec.Running) {
	kept := x.notes(e.id)
	for _, id := range kept.IDs() {
		req, err := kept.Read(id)
		if err != nil || len(req.Cmd) == 0 {
			x.log.Warn("the note of an exec cannot be read", "exec", id, "error", err)
			continue
		}
		p := &execProc{id: id, owner: e, req: req, r: newRun(), begun: true}
		if p.keys, err = detach.Parse(req.DetachKeys); err != nil {
			p.keys = nil
		}
		running, runs := alive[p.key()]
		p.running, p.pid = runs, running.PID
		close(p.r.started)
		x.keep(p)
	}
}
