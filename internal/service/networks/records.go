package networks

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/spec"
)

// recordVersion is the version of a network's record; one of a newer engine is refused rather than misread.
const recordVersion = 1

// record is a network as stored.
type record struct {
	Version int
	spec.Network
}

func (m *maker) save(ctx context.Context, n *known) error {
	data, err := json.Marshal(record{recordVersion, n.Network})
	if err != nil {
		return err
	}
	if err := m.deps.Records.Save(ctx, n.ID, data); err != nil {
		return fmt.Errorf("recording network %s: %w", n.Name, err)
	}
	return nil
}

// load reads the recorded networks and opens them.
func (m *maker) load(ctx context.Context) error {
	if m.deps.Records == nil {
		return nil
	}
	var all []spec.Network
	for id, data := range m.deps.Records.All(ctx) {
		n, err := decode(id, data)
		if err != nil {
			slog.Error("a network's record cannot be used", "network", id, "error", err)
			continue
		}
		all = append(all, *n)
	}
	slices.SortFunc(all, func(a, b spec.Network) int { return a.Created.Compare(b.Created) })
	for _, n := range all {
		if err := m.nets.add(m.revive(ctx, n)); err != nil {
			slog.Error("a recorded network cannot be used", "network", n.ID, "error", err)
		}
	}
	return nil
}

func decode(id string, data []byte) (*spec.Network, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
	}
	switch {
	case r.Version > recordVersion:
		return nil, fmt.Errorf("it has version %d, this engine knows %d: use the newer engine that wrote it: %w", r.Version, recordVersion, errdefs.ErrFailedPrecondition)
	case r.ID != id, r.Name == "":
		return nil, fmt.Errorf("it is incomplete: %w", errdefs.ErrDataLoss)
	}
	r.Recorded = true
	return &r.Network, nil
}

// revive opens a recorded network. One that cannot be opened is there all the same, and says why when it is used.
func (m *maker) revive(ctx context.Context, n spec.Network) *known {
	if n.ConfigOnly {
		return &known{Network: n}
	}
	var steps undo.Stack
	defer steps.Commit()
	k, err := m.assemble(ctx, n, &steps)
	if err != nil {
		slog.Error("a network cannot be used", "network", n.Name, "error", err)
		return &known{Network: n, driver: broken{err}}
	}
	if k.shut = k.driver.Open(ctx); k.shut != nil {
		slog.Error("a network cannot be used now, it is tried again with the next container", "network", n.Name, "error", k.shut)
	}
	return k
}
