package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// contestant is one command line against one engine.
type contestant struct {
	column string
	make   func() *exec.Cmd
	fewer  int // its repetitions are divided by it
	times  sample
}

// commandRow measures the same words on all command lines in turn, the official client against
// us included.
func (b *bench) commandRow(what string, n int, words ...string) ([]result, error) {
	cs := []*contestant{{column: "gantry", fewer: 1, make: func() *exec.Cmd { return b.ours().command(words...) }},
		{column: "official", fewer: 1, make: func() *exec.Cmd { return clientCommand("docker", b.ours().socket, words...) }}}
	for _, e := range b.engines[1:] {
		cs = append(cs, &contestant{column: e.name, fewer: 5, make: func() *exec.Cmd { return e.command(words...) }})
	}
	if err := b.takeTurns(cs, n); err != nil {
		return nil, err
	}
	r := result{what: what + " (own client / official)", cells: map[string]string{}}
	for _, c := range cs {
		r.cells[c.column] = ms(c.times.median())
	}
	r.cells["gantry"] += " / " + r.cells["official"]
	if len(cs) > 2 {
		r.ratio = ratio(cs[0].times.median(), cs[2].times.median()) + "× " + cs[2].column
	}
	return []result{r}, nil
}

func (b *bench) takeTurns(cs []*contestant, n int) error {
	for _, c := range cs {
		for range 2 { // warm
			if _, err := timeCommand(c.make()); err != nil {
				return err
			}
		}
	}
	for left := n; left > 0; left -= b.block {
		for _, c := range cs {
			for range max(1, min(b.block, left)/c.fewer) {
				if err := b.ctx.Err(); err != nil {
					return err
				}
				d, err := timeCommand(c.make())
				if err != nil {
					return err
				}
				c.times = append(c.times, d)
			}
		}
	}
	return nil
}

func runCommand(b *bench) ([]result, error) {
	return b.commandRow("run --rm bb true", b.n/2, "run", "--rm", "bb", "true")
}

func versionCommand(b *bench) ([]result, error) {
	cs := []*contestant{
		{column: "gantry", fewer: 1, make: func() *exec.Cmd { return exec.Command(filepath.Join(b.bin, "gantry"), "--version") }},
		{column: "docker", fewer: 1, make: func() *exec.Cmd { return exec.Command("docker", "--version") }},
	}
	if _, err := exec.LookPath("podman"); err == nil {
		cs = append(cs, &contestant{column: "podman", fewer: 1, make: func() *exec.Cmd { return exec.Command("podman", "--version") }})
	}
	if err := b.takeTurns(cs, b.n); err != nil {
		return nil, err
	}
	r := result{what: "--version", cells: map[string]string{}, ratio: ratio(cs[0].times.median(), cs[1].times.median()) + "× docker"}
	for _, c := range cs {
		r.cells[c.column] = ms(c.times.median())
	}
	return []result{r}, nil
}

func execCommand(b *bench) (rs []result, err error) {
	for _, e := range b.engines {
		if _, err := e.must("run", "-d", "--name", "bench-exec", "bb", "sleep", "600"); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, e.api.remove("bench-exec")) }()
	}
	return b.commandRow("exec true", b.n/2, "exec", "bench-exec", "true")
}

func ps(b *bench) (rs []result, err error) {
	for _, e := range b.engines {
		if err := parallel(100, func(i int) error {
			_, err := e.api.create(fmt.Sprintf("?name=bench-%d", i), nil, "true")
			return err
		}); err != nil {
			return nil, err
		}
		defer func() {
			err = errors.Join(err, parallel(100, func(i int) error { return e.api.remove(fmt.Sprintf("bench-%d", i)) }))
		}()
	}
	return b.commandRow("ps -a of 100 containers", b.n/2, "ps", "-a")
}

// counts follows every process of each engine with strace during one run --rm. The client itself is not counted, but
// where it is the engine.
func counts(b *bench) ([]result, error) {
	r := result{what: "program starts / syncs of one run --rm", cells: map[string]string{}}
	for _, e := range b.engines {
		execs, syncs, err := e.count()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		r.cells[e.name] = fmt.Sprintf("%d / %d", execs, syncs)
	}
	return []result{r}, nil
}

func (e *engine) count() (execs, syncs int, err error) {
	trace := filepath.Join(e.dir, "strace")
	args := []string{"-f", "-qq", "-e", "trace=execve,execveat,fsync,fdatasync,syncfs,sync", "-o", trace}
	if e.name == "podman" { // its command line is its engine
		c := e.command("run", "--rm", "bb", "true")
		cmd := exec.Command("strace", append(args, c.Args...)...)
		cmd.Env = c.Env
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, 0, fmt.Errorf("strace: %w\n%s", err, out)
		}
		execs -= 2 // nsenter and podman itself
	} else {
		for _, pid := range e.pids() {
			args = append(args, "-p", strconv.Itoa(pid))
		}
		cmd := exec.Command("strace", args...)
		if err := cmd.Start(); err != nil {
			return 0, 0, err
		}
		time.Sleep(time.Second)
		_, err := e.must("run", "--rm", "bb", "true")
		time.Sleep(500 * time.Millisecond)
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
		if err != nil {
			return 0, 0, err
		}
	}
	out, err := os.ReadFile(trace)
	for line := range strings.Lines(string(out)) {
		switch {
		case strings.Contains(line, " = -1 ") || strings.Contains(line, "resumed"):
		case strings.Contains(line, "exec"):
			execs++
		case strings.Contains(line, "sync"):
			syncs++
		}
	}
	return execs, syncs, err
}
