package movein

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/moby/api/types/system"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/dockerroot"
)

// Options say what to take and how.
type Options struct {
	Images, Networks, Volumes, Containers bool
	AllImages                             bool // those too that have neither a name nor a container
	Writable                              bool // what containers wrote, as images
	Force                                 bool // replace what has the name here
	DryRun                                bool
	StopOnError                           bool
}

// job is what all parts of the work share.
type job struct {
	engine   Engine
	root     *dockerroot.Root
	o        Options
	progress Progress
	report   Report
}

// errStop ends the work after a failure, with --stop-on-error.
var errStop = errors.New("stopped at the first failure")

// add notes what became of an object. The work ends where a failure is to end it, or the user has.
func (j *job) add(ctx context.Context, i Item) error {
	j.report = append(j.report, i)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if j.o.StopOnError && i.bad() {
		return errStop
	}
	return nil
}

func (j *job) problems(ctx context.Context, list []dockerroot.Problem) error {
	for _, p := range list {
		if err := j.add(ctx, Item{Kind: p.Kind, Name: p.Name, Result: Failed, Note: p.Err.Error()}); err != nil {
			return err
		}
	}
	return nil
}

// Run does the work. The report is complete as far as the work went, whatever the error.
func Run(ctx context.Context, e Engine, r *dockerroot.Root, o Options, p Progress) (Report, error) {
	j := &job{engine: e, root: r, o: o, progress: p}
	err := j.run(ctx)
	return j.report, err
}

// another refuses the engine whose data root it is: the command line finds Docker's socket where no other is.
func (j *job) another(ctx context.Context) error {
	var info system.Info
	if err := j.engine.Get(ctx, "/info", nil, &info); err != nil {
		return err
	}
	a, err := os.Stat(info.DockerRootDir)
	if err != nil {
		return nil // another machine's
	}
	b, err := os.Stat(j.root.Path)
	if err == nil && os.SameFile(a, b) {
		return fmt.Errorf("the engine at %s is the one whose data root %s is: name the engine that is to take it over, with -H", j.engine.Host(), j.root.Path)
	}
	return err
}

func (j *job) run(ctx context.Context) error {
	if err := j.another(ctx); err != nil {
		return err
	}
	containers, problems := j.root.Containers()
	im := &images{job: j, engineIDs: map[digest.Digest]string{}, sent: map[digest.Digest]bool{}, used: map[digest.Digest]bool{}}
	if j.o.Containers {
		for _, c := range containers {
			im.used[c.Image] = true
		}
	}
	if j.o.Images {
		if err := im.run(ctx); err != nil {
			return err
		}
	}
	if j.o.Networks {
		if err := (&networks{j}).run(ctx); err != nil {
			return err
		}
	}
	if j.o.Volumes {
		if err := (&volumes{j}).run(ctx); err != nil {
			return err
		}
	}
	if j.o.Containers {
		if err := j.problems(ctx, problems); err != nil {
			return err
		}
		return (&movers{job: j, images: im, all: containers}).run(ctx)
	}
	return nil
}

// failed is an object's item after an error.
func failed(kind, name string, err error) Item {
	return Item{Kind: kind, Name: name, Result: Failed, Note: strings.ReplaceAll(err.Error(), "Error response from daemon: ", "")}
}

func conflict(kind, name, format string, v ...any) Item {
	return Item{Kind: kind, Name: name, Result: Conflict, Note: fmt.Sprintf(format, v...)}
}
