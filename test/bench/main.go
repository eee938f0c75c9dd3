// Command bench times Gantry beside Debian's Docker and Podman and beside the
// kernel's floor (test/bench/floor), in one run, and prints one table.
//
//	make bench                                          all rows
//	go run ./test/bench -rows cycle,exec -n 50 -peers docker
//	go run ./test/bench -rows cycle -peers /tmp/before/bin
//	go run ./test/bench -markdown README.md,docs/benchmarks.md
//
// Every engine runs in a mount and network namespace of its own with its own
// roots. What is compared is measured in turn, a few repetitions each, so that
// a machine that drifts drifts for all. CPU time is that of all the engine's
// processes, pool work included.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// row is one thing that is measured. It may give several lines of the table.
type row struct {
	name, what, bar string
	run             func(*bench) ([]result, error)
}

var all = []row{
	{"cycle", "create+start+wait+delete, default network, back to back", "≤ 2× floor", cycle},
	{"paced", "the same, one every 20 ms", "≤ 10 ms", paced},
	{"steps", "the cycle's four calls, each", "reported", steps},
	{"burst", "burst of 500, pools cold", "≤ 4× floor", burst},
	{"counts", "program starts / syncs of one run --rm", "2 / 0", counts},
	{"run", "run --rm busybox true, whole command", "≤ 15 / ≤ 35 ms", runCommand},
	{"version", "--version", "< 0.5× docker", versionCommand},
	{"exec", "exec true, whole command", "≤ 12 ms", execCommand},
	{"starts", "100 containers, 8 at a time; their removal", "≥ 80 a second", starts},
	{"ps", "ps of 100 containers", "≤ 10 ms", ps},
	{"boot", "daemon start to _ping, 1,000 stopped containers", "≤ 100 ms", boot},
	{"memory", "engine memory, idle", "≤ 40 MB", memory},
	{"many", "1,000 running containers with a port, a line a second", "the 1,000th as fast as the 10th", many},
	{"ship", "pull, push, save and load of an image of 500 MB", "≤ 0.5× the best peer", ship},
	{"registry", "our registry: push, pull and small requests of 64 clients", "≥ 2× docker-registry", registries},
	{"lazy", "first answer of an application of 500 MB over 100 Mbit/s", "≥ 3× sooner than a full pull", lazy},
	{"logs", "short lines written through json-file, and read back", "≥ 20 / ≥ 200 MB/s", logs},
	{"networks", "life of a network over the API; starts on several", "≤ 5 ms each", networks},
	{"traffic", "packets to containers and to published ports", "≥ 0.95× / ≥ 0.9×", traffic},
	{"lookups", "DNS lookups in a container, and the time of each at 5,000 a second", "≥ 5× docker; 99th < 1 ms", lookups},
}

func main() {
	rows := flag.String("rows", "", "comma-separated rows to measure; empty measures all")
	n := flag.Int("n", 100, "repetitions of short operations")
	block := flag.Int("block", 10, "repetitions of one side before it is the other's turn")
	peers := flag.String("peers", "docker,podman", "peers to measure beside, or a folder with another build of Gantry; none for no peer")
	markdown := flag.String("markdown", "", "comma-separated Markdown files whose marked part is replaced by the table")
	list := flag.Bool("list", false, "list the rows and end")
	flag.Parse()
	if *list {
		for _, r := range all {
			fmt.Printf("%-10s %-60s %s\n", r.name, r.what, r.bar)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{ctx: ctx, n: max(*n, 1), block: max(*block, 1)}
	if err := b.run(words(*rows), words(*peers), words(*markdown)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// bench is what a row measures with.
type bench struct {
	ctx      context.Context // ends with a signal: what was started is cleaned up then
	n, block int
	floor    string    // the floor program
	bin      string    // folder with our executables
	image    string    // archive with the image "bb"
	engines  []*engine // ours first
}

func (b *bench) ours() *engine { return b.engines[0] }

func (b *bench) run(rows, peers, files []string) (err error) {
	chosen, err := choose(rows)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := checkMarks(f); err != nil {
			return err
		}
	}
	root, err := testkit.Root()
	if err != nil {
		return err
	}
	if b.bin = os.Getenv("GANTRY_BIN"); b.bin == "" {
		b.bin = filepath.Join(root, "bin")
	}
	tmp, err := os.MkdirTemp("/var/tmp", "gantry-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b.floor, b.image = filepath.Join(tmp, "floor"), filepath.Join(tmp, "bb.tar")
	if err := buildFloor(filepath.Join(root, "test/bench/floor/floor.c"), b.floor); err != nil {
		return err
	}
	if err := imagemaker.WriteBusybox(b.image, "bb:latest"); err != nil {
		return err
	}
	defer func() {
		for _, e := range b.engines {
			if derr := e.destroy(); derr != nil {
				err = errors.Join(err, fmt.Errorf("stopping %s: %w", e.name, derr))
			}
		}
	}()
	for _, name := range append([]string{"gantry"}, peers...) {
		if name == "none" {
			continue
		}
		e, err := b.fresh(name)
		if err != nil {
			return fmt.Errorf("starting %s: %w", name, err)
		}
		b.engines = append(b.engines, e)
	}
	before := load()
	var floors sample
	t := table{conditions: conditions(b), engines: b.engines}
	for _, r := range chosen {
		begun := time.Now()
		floor, err1 := b.speed()
		fmt.Fprintf(os.Stderr, "measuring %s … ", r.name)
		res, rerr := r.run(b)
		if b.ctx.Err() != nil {
			t.print(os.Stdout) // what there is; files keep what they have
			return fmt.Errorf("interrupted in row %s", r.name)
		}
		if rerr != nil {
			res = []result{{what: r.what, cells: map[string]string{"gantry": "failed: " + firstLine(rerr.Error())}}}
			err = errors.Join(err, fmt.Errorf("row %s: %w", r.name, rerr))
		}
		after, err2 := b.speed()
		err = errors.Join(err, err1, err2)
		floor = (floor + after) / 2
		floors = append(floors, floor)
		fmt.Fprintf(os.Stderr, "%.1f s\n", time.Since(begun).Seconds())
		for i := range res {
			res[i].row = r.name
			if res[i].bar == "" {
				res[i].bar = r.bar
			}
			res[i].bar = scaled(res[i].bar, floor)
		}
		t.results = append(t.results, res...)
	}
	t.conditions += fmt.Sprintf("; the floor took %s beside the rows, %s on the machine that the bars are for", floors.spread(), ms(referenceFloor))
	t.conditions += fmt.Sprintf("; load average %s when it began, %s when it ended.", before, load())
	t.print(os.Stdout)
	for _, f := range files {
		err = errors.Join(err, t.writeMarkdown(f))
	}
	return err
}

func choose(names []string) ([]row, error) {
	if len(names) == 0 {
		return all, nil
	}
	var rows []row
next:
	for _, n := range names {
		for _, r := range all {
			if r.name == n {
				rows = append(rows, r)
				continue next
			}
		}
		return nil, fmt.Errorf("there is no row %q: -list shows them", n)
	}
	return rows, nil
}

func firstLine(s string) string {
	l, _, _ := strings.Cut(s, "\n")
	return l
}
