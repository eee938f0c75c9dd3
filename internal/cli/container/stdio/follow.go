package stdio

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

// ForwardSignals passes signals on to a container until stopped.
func ForwardSignals(ctx context.Context, c *api.Client, id string) (stop func()) {
	ch, stop := catchAll()
	ctx = context.WithoutCancel(ctx)
	go func() {
		for s := range ch {
			if name := forwardable(s); name != "" {
				_ = c.Post(ctx, "/containers/"+id+"/kill", url.Values{"signal": {name}}, nil, nil)
			}
		}
	}()
	return stop
}

// FollowSize keeps the terminal of a container (/containers/ID) or of an exec (/exec/ID) as large as ours. The first
// resize may come before the process is there, so it is tried a few times.
func FollowSize(ctx context.Context, a *app.App, c *api.Client, path string) (stop func()) {
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
	// One goroutine resizes, so that an old size never overtakes a new one.
	changed, unwatch := watchSize()
	done := make(chan struct{})
	go func() {
		for i := 0; resize() != nil; i++ {
			if i == 10 {
				fmt.Fprintln(a.Err, "failed to resize tty, using default size")
				break
			}
			select {
			case <-time.After(time.Duration(i+1) * 10 * time.Millisecond):
			case <-done:
				return
			}
		}
		for {
			select {
			case <-changed:
				_ = resize()
			case <-done:
				return
			}
		}
	}()
	return func() { unwatch(); close(done) }
}
