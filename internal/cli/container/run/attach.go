package run

import (
	"context"
	"errors"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/container/stdio"
)

// BuildAttach is attach.
func BuildAttach(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var noStdin, proxy bool
	var keys string
	f.BoolVar(&noStdin, "no-stdin", false, "Leave STDIN alone")
	f.BoolVar(&proxy, "sig-proxy", true, "Pass signals on to the process")
	f.StringVar(&keys, "detach-keys", "", "Keys that detach from the container")
	return func(ctx context.Context, args []string) error {
		return attach(ctx, a, args[0], noStdin, proxy, keys)
	}
}

func attach(ctx context.Context, a *app.App, name string, noStdin, proxy bool, keys string) error {
	c, err := a.Engine.Client()
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
	streams := stdio.Streams{In: !noStdin && info.Config.OpenStdin, Out: true, Err: true, TTY: info.Config.Tty, Keys: stdio.Keys(a, keys)}
	if err := stdio.CheckTTY(a, streams.In, streams.TTY); err != nil {
		return err
	}
	if proxy && !streams.TTY {
		defer stdio.ForwardSignals(ctx, c, info.ID)()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Asked for before attaching, or the exit of a short-lived container would be missed; and not for the next exit, as it may
	// have ended by now.
	exit := waitFor(ctx, c, info.ID, container.WaitConditionNotRunning)
	if exit.err != nil {
		return exit.err
	}
	conn, err := stdio.Attach(ctx, c, info.ID, streams)
	if err != nil {
		return err
	}
	defer conn.Close()
	if streams.TTY {
		defer stdio.FollowSize(ctx, a, c, "/containers/"+info.ID)()
	}
	if err := stdio.Join(ctx, a, conn, streams); err != nil {
		return err
	}
	return exit.result()
}
