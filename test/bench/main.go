// Command bench times Gantry beside Debian's Docker and Podman and beside the
// kernel's floor (test/bench/floor), in one run, and prints one table.
//
//	make bench                 all rows
//	go run ./test/bench -rows cycle,exec -n 50 -peers docker
//
// Every engine runs in a mount and network namespace of its own with its own
// roots. Peers are measured in turn with us, so that a machine that drifts
// drifts for all. CPU time is that of all the engine's processes, pool work included.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gantry-engine/gantry/internal/testkit"
)

func main() {
	rows := flag.String("rows", "", "comma-separated rows to measure; empty measures all")
	n := flag.Int("n", 100, "repetitions of short operations")
	peers := flag.String("peers", "docker,podman", "peers to measure beside")
	markdown := flag.String("o", "", "also write the table to this file, as Markdown")
	list := flag.Bool("list", false, "list the rows and end")
	flag.Parse()
	if *list {
		for _, r := range all {
			fmt.Printf("%-10s %s\n", r.name, r.what)
		}
		return
	}
	if err := run(*rows, *n, strings.Split(*peers, ","), *markdown); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what a row measures with.
type bench struct {
	ctx    context.Context
	n      int
	floor  string                          // the floor program
	ours   *testkit.Engine                 // gantryd
	docker *testkit.Engine                 // dockerd, or nil
	podman bool                            // measure podman, too
	image  string                          // archive with the image "bb"
	bin    string                          // folder with our executables
	fresh  func() (*testkit.Engine, error) // another gantryd with empty roots
}

func run(rows string, n int, peers []string, markdown string) (err error) {
	root, err := testkit.Root()
	if err != nil {
		return err
	}
	bin := filepath.Join(root, "bin")
	tmp, err := os.MkdirTemp("/var/tmp", "gantry-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b := &bench{ctx: context.Background(), n: n, floor: filepath.Join(tmp, "floor"), image: filepath.Join(tmp, "bb.tar"), bin: bin}
	if out, err := exec.Command("gcc", "-O2", "-w", "-o", b.floor, filepath.Join(root, "test/bench/floor/floor.c")).CombinedOutput(); err != nil {
		return fmt.Errorf("building the floor: %w\n%s", err, out)
	}
	if err := writeImage(b.image); err != nil {
		return err
	}
	b.fresh = func() (*testkit.Engine, error) { return start(testkit.Options{OwnNamespaces: true}, bin, b.image) }
	if b.ours, err = b.fresh(); err != nil {
		return err
	}
	defer func() { destroy(b.ours) }()
	for _, p := range peers {
		switch p {
		case "docker":
			if b.docker, err = start(testkit.Options{Docker: true, OwnNamespaces: true}, bin, b.image); err != nil {
				return err
			}
			defer func() { destroy(b.docker) }()
		case "podman":
			if b.podman, err = preparePodman(b.image); err != nil {
				return err
			}
		case "", "none":
		default:
			return fmt.Errorf("unknown peer %q: docker and podman can be measured", p)
		}
	}
	wanted := map[string]bool{}
	for _, r := range strings.Split(rows, ",") {
		if r != "" {
			wanted[r] = true
		}
	}
	var done []result
	for _, r := range all {
		if len(wanted) > 0 && !wanted[r.name] {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s …\n", r.name)
		res, err := r.run(b)
		if err != nil {
			res = []result{{what: r.what, ours: "failed: " + firstLine(err.Error())}}
		}
		for i := range res {
			if res[i].bar == "" {
				res[i].bar = r.bar
			}
		}
		done = append(done, res...)
	}
	print(os.Stdout, done)
	if markdown == "" {
		return nil
	}
	f, err := os.Create(markdown)
	if err != nil {
		return err
	}
	defer f.Close()
	return printMarkdown(f, done)
}

func firstLine(s string) string {
	l, _, _ := strings.Cut(s, "\n")
	return l
}

func start(o testkit.Options, bin, image string) (*testkit.Engine, error) {
	e, err := testkit.New(o, func() string { return bin })
	if err != nil {
		return nil, err
	}
	if err := e.Run(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, e.LogTail(3000))
	}
	if _, msg, code := e.Docker("load", "-q", "-i", image); code != 0 {
		return nil, fmt.Errorf("loading the image: %s", msg)
	}
	return e, nil
}

func destroy(e *testkit.Engine) {
	if err := e.Destroy(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: stopping:", err)
	}
	_ = os.RemoveAll(e.Dir)
}
