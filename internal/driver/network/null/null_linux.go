// Package null is the driver of the network "none": a namespace of the container's
// own with nothing in it but loopback.
package null

import (
	"context"
	"os"

	"github.com/gantry-engine/gantry/internal/kit/warm"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Driver keeps a few namespaces ready.
type Driver struct{ pool *warm.Pool[*os.File] }

// New makes the driver; one namespace is kept ready, up to poolSize under load, 0 for none.
func New(poolSize int) *Driver {
	one := func() (*os.File, error) { return netlink.NewNamespace(netlink.LoopbackUp) }
	return &Driver{warm.New(warm.Size{Idle: 1, Limit: poolSize}, warm.Maker[*os.File]{
		Begin: func() func() (*os.File, error) { return one },
		Drop:  func(f *os.File) { _ = f.Close() },
	})}
}

// Open implements networks.Driver.
func (d *Driver) Open(context.Context) error { return nil }

// Ready implements networks.Driver.
func (d *Driver) Ready(context.Context) error { d.pool.Start(); return nil }

// Close implements networks.Driver.
func (d *Driver) Close(context.Context, bool) error { d.pool.Stop(); return nil }

// Attach implements networks.Driver.
func (d *Driver) Attach(_ context.Context, j networks.Join) (networks.Attached, error) {
	ns, err := d.pool.Take()
	if err != nil {
		return networks.Attached{}, err
	}
	if err := netlink.SetSysctls(ns, j.Sysctls); err != nil {
		_ = ns.Close()
		return networks.Attached{}, err
	}
	return networks.Attached{NetNS: ns}, nil
}

// Restore implements networks.Driver.
func (d *Driver) Restore(context.Context, spec.Endpoint) error { return nil }

// Unplug implements networks.Driver: who is on this network is on no other, and leaves it with its end.
func (d *Driver) Unplug(context.Context, spec.Endpoint, *os.File) error { return nil }

// Detach implements networks.Driver.
func (d *Driver) Detach(context.Context, spec.Endpoint) error { return nil }
