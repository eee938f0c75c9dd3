package main

import (
	"context"
	"path/filepath"

	"github.com/gantry-engine/gantry/internal/config"
	"github.com/gantry-engine/gantry/internal/driver/content"
	"github.com/gantry-engine/gantry/internal/driver/layers"
	"github.com/gantry-engine/gantry/internal/driver/lazy"
	"github.com/gantry-engine/gantry/internal/kit/sibling"
	"github.com/gantry-engine/gantry/internal/lazyproto"
	imagesservice "github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/version"
)

func lazyMounts(c *config.Config) string { return filepath.Join(c.ExecRoot, "lazy") }

// newLazy makes the driver of layers that are not here yet. It starts nothing.
func newLazy(d *daemon, blobs *content.Store) (*lazy.Driver, error) {
	return lazy.New(lazy.Config{
		Dir: filepath.Join(d.cfg.DataRoot, "lazy"), Mounts: lazyMounts(d.cfg), Socket: filepath.Join(d.cfg.ExecRoot, "lazy.sock"),
		Exe: sibling.Path("gantry-lazy"), Version: version.Version + " " + version.Commit, Offer: blobs.Offer, Log: d.log,
		Access: func() lazyproto.Access {
			c := registryConfig(d.cfg)
			return lazyproto.Access{Default: c.Default, Mirrors: c.Mirrors, Insecure: c.Insecure, CertDirs: c.CertDirs, Attempts: c.Attempts, UserAgent: c.UserAgent}
		},
	})
}

// lazyPort is the driver as the images see it: none where containers do not stand on overlayfs.
func lazyPort(served *lazy.Driver, store *layers.Store) imagesservice.Lazy {
	if store.Driver() != layers.DriverOverlay {
		return nil
	}
	return served
}

// leaveLazy ends what serves layers if no container can be reading from them; else it stays for the next daemon.
func (e *engine) leaveLazy(ctx context.Context, served *lazy.Driver) error {
	if n := e.states(); n["running"]+n["paused"] == 0 {
		return served.Leave(ctx)
	}
	return served.Close()
}

// startLazy serves again what was served before this daemon. Without such layers it does nothing.
func (e *engine) startLazy(ctx context.Context, d *daemon, served *lazy.Driver) {
	e.images.PullLazily(d.cfg.LazyPull)
	served.SetHandler(e.images)
	if err := served.Start(ctx, e.layers.Served()); err != nil {
		d.log.Error("layers that are not here yet cannot be served; containers that need them do not start", "error", err)
	}
}
