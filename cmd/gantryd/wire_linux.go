package main

import (
	"context"

	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/config"
	"github.com/gantry-engine/gantry/internal/server"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	buildroute "github.com/gantry-engine/gantry/internal/server/route/build"
	distributionroute "github.com/gantry-engine/gantry/internal/server/route/distribution"
	eventsroute "github.com/gantry-engine/gantry/internal/server/route/events"
	pluginsroute "github.com/gantry-engine/gantry/internal/server/route/plugins"
	sessionroute "github.com/gantry-engine/gantry/internal/server/route/session"
	swarmroute "github.com/gantry-engine/gantry/internal/server/route/swarm"
	systemroute "github.com/gantry-engine/gantry/internal/server/route/system"
	eventsservice "github.com/gantry-engine/gantry/internal/service/events"
	systemservice "github.com/gantry-engine/gantry/internal/service/system"
	"github.com/gantry-engine/gantry/internal/version"
)

// engine is all services over all drivers. This file is the only place where
// they meet; what is made here is stopped here, in reverse order.
type engine struct {
	events *eventsservice.Service
	system *systemservice.Service
	name   string
}

// wire builds the engine and gives its routes.
func wire(_ context.Context, d *daemon) (*engine, []httpapi.Router, error) {
	e := &engine{events: eventsservice.New(d.log)}
	e.system = systemservice.New(facts(d), systemservice.Ports{Events: e.events})
	return e, []httpapi.Router{
		systemroute.New(e.system), eventsroute.New(e.events), pluginsroute.New(), swarmroute.New(),
		buildroute.New(), sessionroute.New(), distributionroute.New(),
	}, nil
}

func facts(d *daemon) systemservice.Facts {
	c := d.cfg
	driver := c.ExecOpt("native.cgroupdriver")
	if driver == "" {
		driver = "cgroupfs"
	}
	f := systemservice.Facts{
		ID: d.id, Version: version.Version, Commit: version.Commit, APIVersion: server.MaxVersion, MinAPIVersion: server.MinVersion,
		DataRoot: c.DataRoot, Experimental: c.Experimental, LogDriver: c.LogDriver, LogDrivers: []string{"json-file", "local", "none"},
		CgroupDriver: driver, HTTPProxy: c.HTTPProxy, HTTPSProxy: c.HTTPSProxy, NoProxy: c.NoProxy,
		StorageDriver: "overlayfs", NetworkDrivers: []string{"bridge", "host", "null"}, Firewall: "nftables",
		SecurityOptions: []string{"name=seccomp,profile=" + c.SeccompProfile}, DefaultRuntime: c.DefaultRuntime,
	}
	if c.NoNewPrivileges {
		f.SecurityOptions = append(f.SecurityOptions, "name=no-new-privileges")
	}
	reloadable(&f, c)
	return f
}

// reloadable are the facts that SIGHUP may change.
func reloadable(f *systemservice.Facts, c *config.Config) {
	f.Debug, f.Labels, f.LiveRestore, f.DefaultRuntime = c.Debug, c.Labels, c.LiveRestore, c.DefaultRuntime
	f.Insecure, f.Mirrors = c.InsecureRegistries, c.RegistryMirrors
}

// reload takes over what changed in daemon.json and tells those who listen.
func (e *engine) reload(c *config.Config) {
	e.system.Reload(func(f *systemservice.Facts) { reloadable(f, c) })
	f := e.system.Facts()
	e.events.Publish(events.Message{Type: events.DaemonEventType, Action: events.ActionReload, Actor: events.Actor{
		ID: f.ID, Attributes: reloadAttributes(e.system.Info(context.Background()).Name, c),
	}})
}

func (e *engine) states() map[string]int { return nil }

// stop ends the services; with keep, containers go on without the daemon.
func (e *engine) stop(context.Context, bool) error { return nil }
