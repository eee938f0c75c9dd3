package container

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/term"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

type startOptions struct {
	attach, interactive                   bool
	detachKeys, checkpoint, checkpointDir string
}

func buildStart(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &startOptions{}
	f.BoolVarP(&o.attach, "attach", "a", false, "Attach STDOUT and STDERR, and pass signals on")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "Attach the container's STDIN")
	f.StringVar(&o.detachKeys, "detach-keys", "", "Keys that detach from the container")
	f.StringVar(&o.checkpoint, "checkpoint", "", "Start from this checkpoint")
	f.StringVar(&o.checkpointDir, "checkpoint-dir", "", "Directory of the checkpoints")
	return func(ctx context.Context, args []string) error {
		s := session{a}
		if o.attach || o.interactive {
			if len(args) > 1 {
				return errors.New("you cannot start and attach multiple containers at once")
			}
			return s.startAttached(ctx, args[0], o)
		}
		if o.checkpoint != "" && len(args) > 1 {
			return errors.New("you cannot restore multiple containers at once")
		}
		return s.startMany(ctx, args, o)
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

func (a session) startMany(ctx context.Context, args []string, o *startOptions) error {
	c, err := a.Client()
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

func (a session) startAttached(ctx context.Context, name string, o *startOptions) error {
	c, err := a.Client()
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
	keys := a.keys(o.detachKeys)
	cfg := &container.Config{Tty: info.Config.Tty, AttachStdin: o.interactive && info.Config.OpenStdin, AttachStdout: true, AttachStderr: true}
	if !cfg.Tty {
		defer a.forwardSignals(ctx, c, info.ID)()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := a.attachTo(ctx, c, info.ID, cfg, keys)
	if err != nil {
		return err
	}
	defer conn.Close()
	status, err := a.waitFor(ctx, c, info.ID, info.HostConfig.AutoRemove)
	if err != nil {
		return err
	}
	streamed := make(chan error, 1)
	go func() { streamed <- a.stream(conn, cfg, keys).run(ctx) }()
	if err := c.Post(ctx, "/containers/"+info.ID+"/start", o.query(), nil, nil); err != nil {
		cancel()
		<-streamed
		a.In.Restore()
		return err
	}
	if cfg.Tty && a.Out.IsTerminal() {
		defer a.followSize(ctx, c, "/containers/"+info.ID)()
	}
	if err := <-streamed; err != nil {
		var esc term.EscapeError
		if errors.As(err, &esc) {
			return nil
		}
		return err
	}
	if st := <-status; st != 0 {
		return &app.Exit{Code: st}
	}
	return nil
}
