package notes

import (
	"encoding/json"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Run is what a run holds besides its process. The keeper keeps it for a daemon whose record does not
// know of the run.
type Run struct {
	Sandbox spec.Sandbox
	Cgroup  spec.Cgroup
	BootID  string // of the boot that it began in
}

// Encode makes the note. A descriptor of the network namespace does not go with it.
func (r Run) Encode() ([]byte, error) {
	r.Sandbox.NetNS = nil
	return json.Marshal(r)
}

// ReadRun gives nil for a note that is none.
func ReadRun(b []byte) *Run {
	var r Run
	if len(b) == 0 || json.Unmarshal(b, &r) != nil {
		return nil
	}
	return &r
}
