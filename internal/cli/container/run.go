package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/term"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

type runOptions struct {
	createFlags
	detach, sigProxy bool
}

func buildRun(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &runOptions{}
	f.BoolVarP(&o.detach, "detach", "d", false, "Run in the background and print the container's ID")
	f.BoolVar(&o.sigProxy, "sig-proxy", true, "Pass signals on to the process")
	f.StringVar(&o.detachKeys, "detach-keys", "", "Keys that detach from the container")
	o.register(f)
	return func(ctx context.Context, args []string) error { return session{a}.run(ctx, o, args) }
}

func (a session) run(ctx context.Context, o *runOptions, args []string) error {
	fail := func(err error) error {
		var exit *app.Exit
		if errors.As(err, &exit) {
			return err
		}
		return &app.Exit{Code: startStatus(err), Err: a.WithHelp(err, "run")}
	}
	usage := func(err error) error { return &app.Exit{Code: 125, Err: a.WithHelp(err, "run")} }
	if err := o.checkPull(); err != nil {
		return usage(err)
	}
	req, err := a.request(ctx, &o.createFlags, args)
	if err != nil {
		return usage(err)
	}
	if o.detach {
		if len(o.attach.Values) > 0 {
			return errors.New("conflicting options: cannot specify both --attach and --detach")
		}
		req.AttachStdin, req.AttachStdout, req.AttachStderr, req.StdinOnce = false, false, false, false
	} else if err := a.checkTTY(req.AttachStdin, req.Tty); err != nil {
		return err
	}
	if h, w := a.Out.Size(); h > 0 && req.Tty {
		req.HostConfig.ConsoleSize = [2]uint{h, w}
	}
	id, err := a.create(ctx, &o.createFlags, req)
	if err != nil {
		return &app.Exit{Code: 125, Err: a.WithHelp(err, "run")}
	}
	if o.detach {
		c, err := a.Client()
		if err != nil {
			return err
		}
		if err := c.Post(ctx, "/containers/"+id+"/start", nil, nil, nil); err != nil {
			return fail(err)
		}
		fmt.Fprintln(a.Out, id)
		return nil
	}
	return a.foreground(ctx, o, req, id, fail)
}

// foreground attaches, starts, and stays until the container has exited. Attach and wait are asked for side by side, so
// that the whole takes three round trips after create.
func (a session) foreground(ctx context.Context, o *runOptions, req *container.CreateRequest, id string, fail func(error) error) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	if o.sigProxy {
		defer a.forwardSignals(ctx, c, id)()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type waiting struct {
		status <-chan int
		err    error
	}
	waits := make(chan waiting, 1)
	go func() {
		st, err := a.waitFor(ctx, c, id, req.HostConfig.AutoRemove)
		waits <- waiting{st, err}
	}()
	attached := req.AttachStdin || req.AttachStdout || req.AttachStderr
	var streamed chan error
	if attached {
		conn, err := a.attachTo(ctx, c, id, req.Config, a.keys(o.detachKeys))
		if err != nil {
			return fail(err)
		}
		defer conn.Close()
		streamed = make(chan error, 1)
		go func() { streamed <- a.stream(conn, req.Config, a.keys(o.detachKeys)).run(ctx) }()
	}
	w := <-waits
	if w.err != nil {
		return fail(w.err)
	}
	if err := c.Post(ctx, "/containers/"+id+"/start", nil, nil, nil); err != nil {
		if req.HostConfig.AutoRemove {
			a.removeUnstarted(ctx, c, id)
		}
		cancel()
		if streamed != nil {
			<-streamed
		}
		a.In.Restore()
		return fail(err)
	}
	if req.Tty && attached {
		defer a.followSize(ctx, c, "/containers/"+id)()
	}
	if streamed != nil {
		if err := <-streamed; err != nil {
			var esc term.EscapeError
			if errors.As(err, &esc) {
				return nil
			}
			return err
		}
	}
	if status := <-w.status; status != 0 {
		return &app.Exit{Code: status}
	}
	return nil
}

// removeUnstarted sees to it that --rm holds for a container that never ran. The engine does it too, so that
// its absence is fine.
func (a session) removeUnstarted(ctx context.Context, c *api.Client, id string) {
	_ = c.Delete(ctx, "/containers/"+id, url.Values{"v": {"1"}}, nil)
}

// attachTo takes over a connection with the streams a container's configuration asks for.
func (a session) attachTo(ctx context.Context, c *api.Client, id string, cfg *container.Config, keys string) (*api.Hijacked, error) {
	q := url.Values{"stream": {"1"}}
	for name, on := range map[string]bool{"stdin": cfg.AttachStdin, "stdout": cfg.AttachStdout, "stderr": cfg.AttachStderr} {
		if on {
			q.Set(name, "1")
		}
	}
	if keys != "" {
		q.Set("detachKeys", keys)
	}
	return c.Hijack(ctx, "/containers/"+id+"/attach", q, nil)
}

func (a session) stream(conn *api.Hijacked, cfg *container.Config, keys string) *stream {
	s := &stream{a: a.App, conn: conn, tty: cfg.Tty, detachKeys: keys}
	if cfg.AttachStdin {
		s.in = a.In
	}
	if cfg.AttachStdout {
		s.out = a.Out
	}
	if cfg.AttachStderr {
		var w io.Writer = a.Err
		if cfg.Tty {
			w = a.Out
		}
		s.err = w
	}
	return s
}
