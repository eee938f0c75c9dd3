package container

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/cli/api"
)

// forwardSignals passes signals on to a container until stopped.
func (a session) forwardSignals(ctx context.Context, c *api.Client, id string) (stop func()) {
	ch, stop := catchAll()
	go a.forward(context.WithoutCancel(ctx), c, id, ch)
	return stop
}

func (a session) forward(ctx context.Context, c *api.Client, id string, ch <-chan os.Signal) {
	for s := range ch {
		if name := forwardable(s); name != "" {
			_ = c.Post(ctx, "/containers/"+id+"/kill", url.Values{"signal": {name}}, nil, nil)
		}
	}
}

// followSize keeps a container's (or exec's) terminal as large as ours. The first resize may come before the process
// is there, so it is tried a few times.
func (a session) followSize(ctx context.Context, c *api.Client, path string) (stop func()) {
	if !a.Out.IsTerminal() {
		return func() {}
	}
	var lastH, lastW uint
	resize := func() error {
		h, w := a.Out.Size()
		if h == 0 && w == 0 || h == lastH && w == lastW {
			return nil
		}
		err := c.Post(ctx, path+"/resize", url.Values{"h": {strconv.Itoa(int(h))}, "w": {strconv.Itoa(int(w))}}, nil, nil)
		if err == nil {
			lastH, lastW = h, w
		}
		return err
	}
	go func() {
		for i := range 10 {
			if resize() == nil {
				return
			}
			time.Sleep(time.Duration(i+1) * 10 * time.Millisecond)
		}
		fmt.Fprintln(a.Err, "failed to resize tty, using default size")
	}()
	return watchResize(func() { _ = resize() })
}

// waitFor asks for a container's exit. The request is on its way, and the engine has
// registered it, when waitFor returns.
func (a session) waitFor(ctx context.Context, c *api.Client, id string, autoRemove bool) (<-chan int, error) {
	cond := container.WaitConditionNextExit
	if autoRemove {
		cond = container.WaitConditionRemoved
	}
	resp, err := c.Do(ctx, api.Request{Method: "POST", Path: "/containers/" + id + "/wait", Query: url.Values{"condition": {string(cond)}}})
	if err != nil {
		return nil, err
	}
	status := make(chan int, 1)
	go func() {
		defer resp.Body.Close()
		code, err := decodeWait(resp)
		switch {
		case err != nil && ctx.Err() != nil:
			return
		case err != nil:
			fmt.Fprintln(a.Err, "Error waiting for container:", err)
			status <- 125
		default:
			status <- int(code)
		}
	}()
	return status, nil
}

func decodeWait(resp *api.Response) (int64, error) {
	var w container.WaitResponse
	if err := api.Decode(resp.Body, &w); err != nil {
		return 0, err
	}
	if w.Error != nil && w.Error.Message != "" {
		return 0, errors.New(strings.TrimSpace(w.Error.Message))
	}
	return w.StatusCode, nil
}
