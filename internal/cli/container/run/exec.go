package run

import (
	"context"
	"errors"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/container/stdio"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

type execOptions struct {
	detach, interactive, tty, privileged bool
	detachKeys, user, workdir            string
	env, envFile                         opts.List
}

// BuildExec is exec.
func BuildExec(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &execOptions{}
	o.env.Check = opts.CheckEnv
	f.BoolVarP(&o.detach, "detach", "d", false, "Run the command in the background")
	f.StringVar(&o.detachKeys, "detach-keys", "", "Keys that detach from the command")
	f.VarP(&o.env, "env", "e", "Set environment variables")
	f.Var(&o.envFile, "env-file", "Read environment variables from a file")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	f.BoolVar(&o.privileged, "privileged", false, "Give the command all privileges of the host")
	f.BoolVarP(&o.tty, "tty", "t", false, "Give the command a terminal")
	f.StringVarP(&o.user, "user", "u", "", "User and group (<name|uid>[:<group|gid>])")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	return func(ctx context.Context, args []string) error { return exec(ctx, a, o, args[0], args[1:]) }
}

func exec(ctx context.Context, a *app.App, o *execOptions, name string, cmd []string) error {
	env, err := opts.ReadEnv(o.envFile.Values, o.env.Values)
	if err != nil {
		return err
	}
	c, err := a.Engine.Client()
	if err != nil {
		return err
	}
	keys := stdio.Keys(a, o.detachKeys)
	req := container.ExecCreateRequest{User: o.user, Privileged: o.privileged, Tty: o.tty, Cmd: cmd, Env: env, WorkingDir: o.workdir, DetachKeys: keys}
	if !o.detach {
		if err := stdio.CheckTTY(a, o.interactive, o.tty); err != nil {
			return err
		}
		req.AttachStdin, req.AttachStdout, req.AttachStderr = o.interactive, true, true
	}
	if h, w := a.Out.Size(); h > 0 && o.tty {
		req.ConsoleSize = &[2]uint{h, w}
	}
	var created container.ExecCreateResponse
	if err := c.Post(ctx, "/containers/"+url.PathEscape(name)+"/exec", nil, req, &created); err != nil {
		return err
	}
	if created.ID == "" {
		return errors.New("exec ID empty")
	}
	start := container.ExecStartRequest{Detach: o.detach, Tty: o.tty, ConsoleSize: req.ConsoleSize}
	path := "/exec/" + created.ID
	if o.detach {
		return execStatus(c.Post(ctx, path+"/start", nil, start, nil))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := c.Hijack(ctx, path+"/start", nil, start)
	if err != nil {
		return execStatus(err)
	}
	defer conn.Close()
	if o.tty && a.In.IsTerminal() {
		defer stdio.FollowSize(ctx, a, c, path)()
	}
	streams := stdio.Streams{In: o.interactive, Out: true, Err: true, TTY: o.tty, Keys: keys}
	if err := stdio.Join(ctx, a, conn, streams); err != nil {
		return err
	}
	var info container.ExecInspectResponse
	if err := c.Get(ctx, path+"/json", nil, &info); err != nil {
		return err
	}
	if info.ExitCode != nil && *info.ExitCode != 0 {
		return &app.Exit{Code: *info.ExitCode}
	}
	return nil
}

// execStatus gives a failed start the status a shell would give: 127 not found, 126 not executable.
func execStatus(err error) error {
	if err == nil {
		return nil
	}
	if code := startStatus(err); code != 125 {
		return &app.Exit{Code: code, Err: err}
	}
	return err
}
