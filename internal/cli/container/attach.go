package container

import (
	"context"
	"errors"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

func buildAttach(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var noStdin, proxy bool
	var keys string
	f.BoolVar(&noStdin, "no-stdin", false, "Leave STDIN alone")
	f.BoolVar(&proxy, "sig-proxy", true, "Pass signals on to the process")
	f.StringVar(&keys, "detach-keys", "", "Keys that detach from the container")
	return func(ctx context.Context, args []string) error {
		return session{a}.attach(ctx, args[0], noStdin, proxy, keys)
	}
}

func (a session) attach(ctx context.Context, name string, noStdin, proxy bool, keys string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	var info container.InspectResponse
	if err := c.Get(ctx, "/containers/"+url.PathEscape(name)+"/json", nil, &info); err != nil {
		return err
	}
	if info.Config == nil || info.State == nil {
		return errors.New("the engine's answer does not describe the container")
	}
	switch {
	case !info.State.Running:
		return errors.New("cannot attach to a stopped container, start it first")
	case info.State.Paused:
		return errors.New("cannot attach to a paused container, unpause it first")
	case info.State.Restarting:
		return errors.New("cannot attach to a restarting container, wait until it is running")
	}
	cfg := &container.Config{Tty: info.Config.Tty, AttachStdin: !noStdin && info.Config.OpenStdin, AttachStdout: true, AttachStderr: true}
	if err := a.checkTTY(cfg.AttachStdin, cfg.Tty); err != nil {
		return err
	}
	keys = a.keys(keys)
	if proxy && !cfg.Tty {
		defer a.forwardSignals(ctx, c, info.ID)()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Asked for before attaching, or the exit of a short-lived container would be missed.
	status, err := a.waitFor(ctx, c, info.ID, false)
	if err != nil {
		return err
	}
	conn, err := a.attachTo(ctx, c, info.ID, cfg, keys)
	if err != nil {
		return err
	}
	defer conn.Close()
	if cfg.Tty {
		defer a.followSize(ctx, c, "/containers/"+info.ID)()
	}
	if err := a.stream(conn, cfg, keys).run(ctx); err != nil {
		return err
	}
	if st := <-status; st != 0 {
		return &app.Exit{Code: st}
	}
	return nil
}
