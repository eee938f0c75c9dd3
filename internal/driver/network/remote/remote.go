//go:build linux

// Package remote is networks and addresses that other programs manage, by Docker's plugin protocol (libnetwork's remote
// drivers). A plugin that does not answer holds up nobody but those who want its networks: the daemon's start asks nothing.
package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/plugin"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Finder finds plugins by name. It implements networks.Plugins.
type Finder struct {
	folders plugin.Folders
	bounds  plugin.Bounds
	journal journal

	mu      sync.Mutex
	plugins map[string]*plugin.Plugin
	work    sync.WaitGroup // what is tidied up behind the daemon's start
}

// NewFinder makes a finder that notes in a folder what plugins were asked to make.
func NewFinder(folders plugin.Folders, bounds plugin.Bounds, state string) *Finder {
	return &Finder{folders: folders, bounds: bounds, journal: journal{dir: state}, plugins: map[string]*plugin.Plugin{}}
}

// Kind implements networks.Plugins. Nothing is asked of the plugin yet.
func (f *Finder) Kind(name string) networks.Kind { return kind{f, f.plugin(name)} }

// IPAM implements networks.Plugins. Nothing is asked of the plugin yet.
func (f *Finder) IPAM(name string) networks.IPAM { return addresses{f, f.plugin(name)} }

func (f *Finder) plugin(name string) *plugin.Plugin {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.plugins[name]
	if p == nil {
		p = plugin.New(name, f.folders, f.bounds)
		if len(f.plugins) < 64 { // names are users': what is asked for once is not kept for ever
			f.plugins[name] = p
		}
	}
	return p
}

// Sweep implements networks.Plugins: has plugins delete the networks that a former daemon had them make and did not
// record. It does not wait for them.
func (f *Finder) Sweep(_ context.Context, known func(id string) bool) error {
	all, err := f.journal.networks()
	for _, n := range all {
		if known(n.ID) {
			continue
		}
		f.work.Go(func() {
			ctx := context.Background()
			if err := f.forget(ctx, n); err != nil {
				slog.Warn("a network that was never recorded stays with its plugin; it is tried again at the next start", "network", n.ID, "plugin", n.Plugin, "error", err)
			}
		})
	}
	return err
}

// forget has a plugin delete a network with all its endpoints, and forgets it.
func (f *Finder) forget(ctx context.Context, n networkNote) error {
	var said []error // what plugins that answered did not like: nothing more can be done
	if n.Plugin != "" {
		p := f.plugin(n.Plugin)
		eps, err := f.journal.endpoints(n.ID)
		if err != nil {
			return err
		}
		for id := range eps {
			err := leave(ctx, p, n.ID, id)
			if !heard(err) {
				return err
			}
			said = append(said, err, f.journal.dropEndpoint(n.ID, id))
		}
		if err := p.Call(ctx, "NetworkDriver.DeleteNetwork", networkID{n.ID}, nil); !heard(err) {
			return err
		} else if err != nil {
			said = append(said, err)
		}
	}
	if n.IPAM != "" {
		if err := release(ctx, f.plugin(n.IPAM), n.Pools); !heard(err) {
			return err
		} else if err != nil {
			said = append(said, err)
		}
	}
	return errors.Join(append(said, f.journal.dropNetwork(n.ID))...)
}

// kind makes one plugin's networks. It implements networks.Kind.
type kind struct {
	f *Finder
	p *plugin.Plugin
}

// Settle implements networks.Kind. Of a recorded network the plugin has been asked before.
func (k kind) Settle(n *spec.Network) error {
	if n.Recorded {
		return nil
	}
	ctx := context.Background() // bounded by the plugin's
	if err := k.p.Activate(ctx, "NetworkDriver"); err != nil {
		return err
	}
	var able struct{ Scope string }
	if err := k.p.Call(ctx, "NetworkDriver.GetCapabilities", nil, &able); err != nil {
		return err
	}
	switch able.Scope {
	case "local":
		return nil
	case "global":
		return fmt.Errorf("networks of plugin %s are those of a whole cluster (scope global), which this engine is no part of: %w", k.p.Name, errdefs.ErrPermissionDenied)
	}
	return fmt.Errorf("plugin %s: NetworkDriver.GetCapabilities: invalid capability: scope %q, local or global is needed: %w", k.p.Name, able.Scope, errdefs.ErrInternal)
}

// New implements networks.Kind.
func (k kind) New(n spec.Network, space networks.Space) (networks.Driver, error) {
	return &driver{f: k.f, p: k.p, net: n, space: space, made: n.Recorded, restored: map[string]bool{}}, nil
}

// Sweep implements networks.Kind, for all plugins.
func (k kind) Sweep(ctx context.Context, known func(id string) bool) error {
	return k.f.Sweep(ctx, known)
}
