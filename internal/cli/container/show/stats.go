package show

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
)

type statsOptions struct {
	all, noStream, noTrunc bool
	format                 string
}

// BuildStats is stats.
func BuildStats(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &statsOptions{}
	f.BoolVarP(&o.all, "all", "a", false, "Show all containers, not only those that run")
	f.StringVar(&o.format, "format", "", app.FormatHelp)
	f.BoolVar(&o.noStream, "no-stream", false, "Show one result and end")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show everything in full")
	return func(ctx context.Context, args []string) error { return stats(ctx, a, o, args) }
}

// board is the set of containers watched, in order of appearance.
type board struct {
	mu   sync.Mutex
	rows []*statsEntry
}

func (b *board) add(e *statsEntry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.rows {
		if x.container == e.container {
			return false
		}
	}
	b.rows = append(b.rows, e)
	return true
}

func (b *board) remove(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = slices.DeleteFunc(b.rows, func(e *statsEntry) bool { return e.container == id })
}

func (b *board) snapshot() []*statsEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.rows)
}

func stats(ctx context.Context, a *app.App, o *statsOptions, args []string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &board{}
	watchErr := make(chan error, 1)
	if len(args) > 0 {
		for _, n := range args {
			b.add(&statsEntry{container: n, first: make(chan struct{})})
		}
	} else {
		if err := statsAll(ctx, c, o, b, watchErr); err != nil {
			return err
		}
	}
	var errs []string
	for _, e := range b.snapshot() {
		go e.collect(ctx, c, !o.noStream)
	}
	for _, e := range b.snapshot() {
		select {
		case <-e.first:
		case <-time.After(4 * time.Second):
		}
		if err := e.failure(); err != nil && len(args) > 0 {
			errs = append(errs, err.Error())
		}
	}
	if len(errs) > 0 {
		return errors.New(strings.Join(errs, "\n"))
	}
	return statsShow(ctx, a, o, b, watchErr)
}

// statsAll fills the board with the containers there are and, when streaming, with those that come.
func statsAll(ctx context.Context, c *api.Client, o *statsOptions, b *board, fail chan<- error) error {
	var stream *api.Response
	if !o.noStream {
		var err error
		stream, err = c.Do(ctx, api.Request{Method: "GET", Path: "/events", Query: url.Values{"filters": {`{"type":{"container":true}}`}}})
		if err != nil {
			return err
		}
	}
	q := url.Values{}
	if o.all {
		q.Set("all", "1")
	}
	var list []container.Summary
	if err := c.Get(ctx, "/containers/json", q, &list); err != nil {
		return err
	}
	for _, s := range list {
		b.add(&statsEntry{container: format.ShortID(s.ID), first: make(chan struct{})})
	}
	if stream != nil {
		go statsFollow(ctx, c, o, b, stream, fail)
	}
	return nil
}

func statsFollow(ctx context.Context, c *api.Client, o *statsOptions, b *board, stream *api.Response, fail chan<- error) {
	defer stream.Body.Close()
	dec := json.NewDecoder(stream.Body)
	for {
		var m events.Message
		if err := dec.Decode(&m); err != nil {
			fail <- err
			return
		}
		id := format.ShortID(m.Actor.ID)
		switch {
		case m.Action == events.ActionStart, m.Action == events.ActionCreate && o.all:
			e := &statsEntry{container: id, first: make(chan struct{})}
			if b.add(e) {
				go e.collect(ctx, c, true)
			}
		case m.Action == events.ActionDie && !o.all, m.Action == events.ActionDestroy:
			b.remove(id)
		}
	}
}

func statsShow(ctx context.Context, a *app.App, o *statsOptions, b *board, fail <-chan error) error {
	f := o.format
	if f == "" {
		f = a.Home.Config().StatsFormat
	}
	if f == "" {
		f = format.TableKey
	}
	if f == format.TableKey {
		f = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
	}
	t := format.Table{Format: f, Header: statsHeader}
	draw := func() error {
		var buf bytes.Buffer
		var rows []*StatsRow
		for _, e := range b.snapshot() {
			rows = append(rows, e.row(!o.noTrunc))
		}
		if err := format.Write(&buf, t, rows); err != nil {
			return err
		}
		text := buf.String()
		if !o.noStream {
			// Home, every line cleared to its end, the rest cleared: no flicker.
			text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
		}
		_, err := fmt.Fprint(a.Out, text)
		return err
	}
	if o.noStream {
		return draw()
	}
	fmt.Fprint(a.Out, "\x1b[2J")
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := draw(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case err := <-fail:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
