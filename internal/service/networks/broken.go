package networks

import (
	"context"
	"os"

	"github.com/gantry-engine/gantry/internal/spec"
)

// broken is the driver of a recorded network whose driver cannot be had: it says why.
type broken struct{ why error }

func (b broken) Open(context.Context) error                            { return b.why }
func (b broken) Ready(context.Context) error                           { return b.why }
func (b broken) Close(context.Context, bool) error                     { return nil }
func (b broken) Attach(context.Context, Join) (Attached, error)        { return Attached{}, b.why }
func (b broken) Restore(context.Context, spec.Endpoint) error          { return b.why }
func (b broken) Unplug(context.Context, spec.Endpoint, *os.File) error { return b.why }
func (b broken) Detach(context.Context, spec.Endpoint) error           { return nil }
