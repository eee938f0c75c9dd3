// Package run has the verbs that bring a process to life and stay with it: run, start, attach, exec, wait.
package run

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/container/create"
	"github.com/gantry-engine/gantry/internal/cli/container/stdio"
)

type runOptions struct {
	create.Flags
	detach, sigProxy bool
	detachKeys       string
}

// BuildRun is run.
func BuildRun(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &runOptions{}
	f.BoolVarP(&o.detach, "detach", "d", false, "Run in the background and print the container's ID")
	f.BoolVar(&o.sigProxy, "sig-proxy", true, "Pass signals on to the process")
	f.StringVar(&o.detachKeys, "detach-keys", "", "Keys that detach from the container")
	o.Register(f)
	return func(ctx context.Context, args []string) error { return run(ctx, a, o, args) }
}

func run(ctx context.Context, a *app.App, o *runOptions, args []string) error {
	usage := func(err error) error { return &app.Exit{Code: 125, Err: a.WithHelp(err, "run")} }
	if err := o.CheckPull(); err != nil {
		return usage(err)
	}
	req, err := create.Request(ctx, a, &o.Flags, args)
	if err != nil {
		return usage(err)
	}
	if o.detach {
		if o.Attaches() {
			return errors.New("conflicting options: cannot specify both --attach and --detach")
		}
		req.AttachStdin, req.AttachStdout, req.AttachStderr, req.StdinOnce = false, false, false, false
	} else if err := stdio.CheckTTY(a, req.AttachStdin, req.Tty); err != nil {
		return err
	}
	if h, w := a.Out.Size(); h > 0 && req.Tty {
		req.HostConfig.ConsoleSize = [2]uint{h, w}
	}
	id, err := create.Create(ctx, a, &o.Flags, req)
	if err != nil {
		return usage(err)
	}
	c, err := a.Engine.Client()
	if err != nil {
		return err
	}
	if !o.detach {
		return foreground(ctx, a, c, o, req, id)
	}
	if err := c.Post(ctx, "/containers/"+id+"/start", nil, nil, nil); err != nil {
		return runFailed(a, err)
	}
	fmt.Fprintln(a.Out, id)
	return nil
}

// runFailed gives a container that did not start the status a shell would give.
func runFailed(a *app.App, err error) error {
	var exit *app.Exit
	if errors.As(err, &exit) {
		return err
	}
	return &app.Exit{Code: startStatus(err), Err: a.WithHelp(err, "run")}
}

// foreground attaches, starts, and stays until the container has exited. Attach and wait are asked for side by side, so
// that the whole takes three round trips after create.
func foreground(ctx context.Context, a *app.App, c *api.Client, o *runOptions, req *container.CreateRequest, id string) error {
	if o.sigProxy {
		defer stdio.ForwardSignals(ctx, c, id)()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	exits := make(chan exit, 1)
	go func() { exits <- waitForNext(ctx, c, id, req.HostConfig.AutoRemove) }()

	streams := stdio.Streams{In: req.AttachStdin, Out: req.AttachStdout, Err: req.AttachStderr, TTY: req.Tty, Keys: stdio.Keys(a, o.detachKeys)}
	attached := streams.In || streams.Out || streams.Err
	joined := make(chan error, 1)
	if attached {
		conn, err := stdio.Attach(ctx, c, id, streams)
		if err != nil {
			return runFailed(a, err)
		}
		defer conn.Close()
		go func() { joined <- stdio.Join(ctx, a, conn, streams) }()
	}
	exit := <-exits
	if exit.err != nil {
		return runFailed(a, exit.err)
	}
	if err := c.Post(ctx, "/containers/"+id+"/start", nil, nil, nil); err != nil {
		if req.HostConfig.AutoRemove {
			removeUnstarted(ctx, c, id)
		}
		cancel()
		if attached {
			<-joined
		}
		a.In.Restore()
		return runFailed(a, err)
	}
	if req.Tty && attached {
		defer stdio.FollowSize(ctx, a, c, "/containers/"+id)()
	}
	if attached {
		if err := <-joined; stdio.Detached(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return exit.orUnknown()
}

// removeUnstarted sees to it that --rm holds for a container that never ran. The engine does it too, so that
// its absence is fine.
func removeUnstarted(ctx context.Context, c *api.Client, id string) {
	_ = c.Delete(ctx, "/containers/"+id, url.Values{"v": {"1"}}, nil)
}
