package show

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/container/stdio"
	"github.com/gantry-engine/gantry/internal/cli/timestamp"
)

// BuildLogs is logs.
func BuildLogs(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var details, follow, stamps bool
	var since, until, tail string
	f.BoolVar(&details, "details", false, "Show extra attributes of the log driver")
	f.BoolVarP(&follow, "follow", "f", false, "Go on with what is written from now on")
	f.StringVar(&since, "since", "", `Only lines since a time ("2013-01-02T13:23:37Z") or duration ("42m")`)
	f.StringVar(&until, "until", "", `Only lines before a time ("2013-01-02T13:23:37Z") or duration ("42m")`)
	f.BoolVarP(&stamps, "timestamps", "t", false, "Show when each line was written")
	f.StringVarP(&tail, "tail", "n", "all", "Number of lines to show from the end")
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		q := url.Values{"stdout": {"1"}, "stderr": {"1"}, "tail": {tail}}
		for k, on := range map[string]bool{"details": details, "follow": follow, "timestamps": stamps} {
			if on {
				q.Set(k, "1")
			}
		}
		for k, v := range map[string]string{"since": since, "until": until} {
			if v == "" {
				continue
			}
			ts, err := timestamp.Parse(v)
			if err != nil {
				return fmt.Errorf(`invalid value for "%s": %w`, k, err)
			}
			q.Set(k, ts)
		}
		resp, err := c.Do(ctx, api.Request{Method: "GET", Path: "/containers/" + url.PathEscape(args[0]) + "/logs", Query: q})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		raw, err := isRaw(ctx, c, resp, args[0])
		if err != nil {
			return err
		}
		if raw {
			_, err = io.CopyBuffer(a.Out, resp.Body, make([]byte, stdio.Block))
			return err
		}
		return stdio.Demux(a.Out, a.Err, resp.Body, stdio.OutputsApart(a))
	}
}

// isRaw tells a terminal's log from one of two streams. Engines say it in the answer; older ones have to be asked.
func isRaw(ctx context.Context, c *api.Client, resp *api.Response, name string) (bool, error) {
	switch resp.Header.Get("Content-Type") {
	case "application/vnd.docker.multiplexed-stream":
		return false, nil
	}
	var info container.InspectResponse
	if err := c.Get(ctx, "/containers/"+url.PathEscape(name)+"/json", nil, &info); err != nil {
		return false, err
	}
	return info.Config != nil && info.Config.Tty, nil
}
