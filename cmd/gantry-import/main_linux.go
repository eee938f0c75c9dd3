// Command gantry-import does the work of `gantry system import-docker`, which executes it with its own command line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/importdocker"
	"github.com/gantry-engine/gantry/internal/cli/progress"
	"github.com/gantry-engine/gantry/internal/dockerroot"
	"github.com/gantry-engine/gantry/internal/movein"
)

func main() {
	name := filepath.Base(os.Args[0])
	if name != "docker" {
		name = "gantry"
	}
	a := app.New(name)
	root := &app.Command{Args: "[OPTIONS] COMMAND", Short: "Take over what a Docker engine has", Sub: func() []*app.Command {
		return []*app.Command{{Name: "system", Args: "COMMAND", Short: "Manage the engine", Sub: func() []*app.Command { return []*app.Command{importdocker.Command(run)} }}}
	}}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := a.Run(ctx, root, os.Args[1:], app.Hooks{
		Plugin:  func(context.Context, string, []string) (bool, error) { return false, nil },
		Plugins: func() []*app.Command { return nil },
	})
	if err == nil {
		return
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(os.Stderr, text)
	}
	os.Exit(app.ExitCode(err))
}

// run takes everything over, and reports.
func run(ctx context.Context, a *app.App, o importdocker.Options) error {
	c, err := a.Engine.Client()
	if err != nil {
		return err
	}
	path, err := filepath.Abs(o.DataRoot)
	if err != nil {
		return err
	}
	r, err := dockerroot.Open(path, o.Driver)
	if err != nil {
		return err
	}
	show := newDisplay(a, o.Quiet)
	report, err := movein.Run(ctx, c, r, movein.Options{
		Images: o.Images, Networks: o.Networks, Volumes: o.Volumes, Containers: o.Containers, AllImages: o.All, Writable: o.Writable, Force: o.Force, DryRun: o.DryRun, StopOnError: o.StopOnError,
	}, show.progress)
	show.close()
	if err != nil && len(report) == 0 {
		return err
	}
	rows := make([]*importdocker.Row, 0, len(report))
	for _, i := range report {
		rows = append(rows, &importdocker.Row{K: i.Kind, N: i.Name, R: string(i.Result), Bytes: i.Size, Remark: i.Note})
	}
	if werr := importdocker.Write(a, o, rows); werr != nil {
		return werr
	}
	bad := report.Bad()
	switch {
	case ctx.Err() != nil:
		return &app.Exit{Code: 130, Err: errors.New("interrupted: what is taken stays, and is skipped when the command is repeated")}
	case err != nil:
		return err
	case bad == 1:
		return errors.New("1 thing was not taken over: see the notes")
	case bad > 0:
		return fmt.Errorf("%d things were not taken over: see the notes", bad)
	}
	return nil
}

// display shows progress as that of an engine is shown.
type display struct {
	w    *io.PipeWriter
	enc  *json.Encoder
	done chan struct{}

	mu   sync.Mutex
	last string // what was shown last, and when
	when time.Time
}

// interval is how often a part's figures are shown.
const interval = 100 * time.Millisecond

func newDisplay(a *app.App, quiet bool) *display {
	if quiet {
		return &display{}
	}
	out, columns := a.Err, 0 // the report goes to standard output
	if a.Out.IsTerminal() {
		out, columns = a.Out, a.Out.Columns()
	}
	r, w := io.Pipe()
	d := &display{w: w, enc: json.NewEncoder(w), done: make(chan struct{})}
	go func() {
		defer close(d.done)
		_ = progress.Show(r, out, columns, nil) // what is shown is our own
		_, _ = io.Copy(io.Discard, r)
	}()
	return d
}

func (d *display) progress(what, status string, done, total int64) {
	if d.w == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.last == what+status && now.Sub(d.when) < interval && done != total {
		return
	}
	d.last, d.when = what+status, now
	m := jsonstream.Message{ID: what, Status: status}
	if done > 0 || total > 0 {
		m.Progress = &jsonstream.Progress{Current: done, Total: total}
	}
	_ = d.enc.Encode(m)
}

func (d *display) close() {
	if d.w != nil {
		_ = d.w.Close()
		<-d.done
	}
}
