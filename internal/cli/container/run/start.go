package run

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/container/stdio"
)

type startOptions struct {
	attach, interactive                   bool
	detachKeys, checkpoint, checkpointDir string
}

// BuildStart is start.
func BuildStart(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &startOptions{}
	f.BoolVarP(&o.attach, "attach", "a", false, "Attach STDOUT and STDERR, and pass signals on")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "Attach the container's STDIN")
	f.StringVar(&o.detachKeys, "detach-keys", "", "Keys that detach from the container")
	f.StringVar(&o.checkpoint, "checkpoint", "", "Start from this checkpoint")
	f.StringVar(&o.checkpointDir, "checkpoint-dir", "", "Directory of the checkpoints")
	return func(ctx context.Context, args []string) error {
		if o.attach || o.interactive {
			if len(args) > 1 {
				return errors.New("you cannot start and attach multiple containers at once")
			}
			return startAttached(ctx, a, args[0], o)
		}
		if o.checkpoint != "" && len(args) > 1 {
			return errors.New("you cannot restore multiple containers at once")
		}
		return startMany(ctx, a, args, o)
	}
}

func (o *startOptions) query() url.Values {
	q := url.Values{}
	if o.checkpoint != "" {
		q.Set("checkpoint", o.checkpoint)
	}
	if o.checkpointDir != "" {
		q.Set("checkpoint-dir", o.checkpointDir)
	}
	return q
}

func startMany(ctx context.Context, a *app.App, args []string, o *startOptions) error {
	c, err := a.Engine.Client()
	if err != nil {
		return err
	}
	failed := ""
	for _, name := range args {
		if err := c.Post(ctx, "/containers/"+url.PathEscape(name)+"/start", o.query(), nil, nil); err != nil {
			fmt.Fprintln(a.Err, err)
			failed += ", " + name
			continue
		}
		fmt.Fprintln(a.Out, name)
	}
	if failed != "" {
		return fmt.Errorf("Error: failed to start containers: %s", failed[2:]) // docker's text
	}
	return nil
}

func startAttached(ctx context.Context, a *app.App, name string, o *startOptions) error {
	c, err := a.Engine.Client()
	if err != nil {
		return err
	}
	var info container.InspectResponse
	if err := c.Get(ctx, "/containers/"+url.PathEscape(name)+"/json", nil, &info); err != nil {
		return err
	}
	if info.Config == nil || info.HostConfig == nil {
		return errors.New("the engine's answer does not describe the container")
	}
	streams := stdio.Streams{In: o.interactive && info.Config.OpenStdin, Out: true, Err: true, TTY: info.Config.Tty, Keys: stdio.Keys(a, o.detachKeys)}
	if !streams.TTY {
		defer stdio.ForwardSignals(ctx, c, info.ID)()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := stdio.Attach(ctx, c, info.ID, streams)
	if err != nil {
		return err
	}
	defer conn.Close()
	exit := waitForNext(ctx, c, info.ID, info.HostConfig.AutoRemove)
	if exit.err != nil {
		return exit.err
	}
	joined := make(chan error, 1)
	go func() { joined <- stdio.Join(ctx, a, conn, streams) }()
	if err := c.Post(ctx, "/containers/"+info.ID+"/start", o.query(), nil, nil); err != nil {
		cancel()
		<-joined
		a.In.Restore()
		return err
	}
	if streams.TTY {
		defer stdio.FollowSize(ctx, a, c, "/containers/"+info.ID)()
	}
	if err := <-joined; stdio.Detached(err) {
		return nil
	} else if err != nil {
		return err
	}
	return exit.orUnknown()
}
