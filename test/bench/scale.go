package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// size is how many containers a row is about: as many as its title says for us, fewer for
// peers, whose containers take a quarter of a second each.
func (b *bench) size(e *engine, ours, peers int) int {
	if e == b.ours() {
		return ours
	}
	return peers
}

func starts(b *bench) ([]result, error) {
	r := result{what: "100 containers, 8 at a time", cells: map[string]string{}}
	d := result{what: "rm -f of the 100, one command", bar: "≤ 1 s", cells: map[string]string{}}
	for _, e := range b.engines {
		t := time.Now()
		err := parallel(100, func(i int) error {
			id, err := e.api.create(fmt.Sprintf("?name=bench-%d", i), nil, "sleep", "600")
			if err != nil {
				return err
			}
			return e.api.start(id)
		})
		took := time.Since(t)
		args := []string{"rm", "-f"}
		if e.name == "podman" {
			args = append(args, "-t", "0") // else it waits ten seconds for each
		}
		for i := range 100 {
			args = append(args, fmt.Sprintf("bench-%d", i))
		}
		t = time.Now()
		if _, rerr := e.must(args...); err != nil || rerr != nil {
			return nil, errors.Join(err, rerr)
		}
		d.cells[e.name] = ms(time.Since(t))
		r.cells[e.name] = fmt.Sprintf("%.1f/s", 100/took.Seconds())
	}
	return []result{r, d}, nil
}

// boot measures a start with many stopped containers: until _ping is answered, and until all containers are listed. The
// time of unshare and of ip, which make the namespaces of each engine, is in it.
func boot(b *bench) ([]result, error) {
	r := result{what: "daemon start to _ping, 1,000 stopped containers (peers 100)", cells: map[string]string{}}
	l := result{what: "– to the first complete list of them", bar: "reported", cells: map[string]string{}}
	for _, known := range b.engines {
		if known.start == nil {
			continue
		}
		n := b.size(known, 1000, 100)
		e, err := b.fresh(known.name)
		if err != nil {
			return nil, err
		}
		ping, list, err := e.boots(n, b.size(known, 11, 3))
		if err != nil {
			return nil, closing(e, err)
		}
		if err := e.destroy(); err != nil {
			return nil, err
		}
		r.cells[e.name], l.cells[e.name] = ping.spread(), list.spread()
	}
	return []result{r, l}, nil
}

func (e *engine) boots(containers, times int) (ping, list sample, err error) {
	if err := parallel(containers, func(int) error {
		_, err := e.api.create("", nil, "true")
		return err
	}); err != nil {
		return nil, nil, err
	}
	for range times {
		e.http.CloseIdleConnections()
		if err := e.stop(); err != nil {
			return nil, nil, err
		}
		t := time.Now()
		if err := e.start(); err != nil {
			return nil, nil, err
		}
		ping = append(ping, time.Since(t))
		var all []struct{ ID string }
		if err := e.api.call("GET", "/containers/json?all=1", nil, &all); err != nil {
			return nil, nil, err
		}
		list = append(list, time.Since(t))
		if len(all) != containers {
			return nil, nil, fmt.Errorf("%d containers are listed after a start, not %d", len(all), containers)
		}
	}
	return ping, list, nil
}

func memory(b *bench) ([]result, error) {
	r := result{what: "engine memory, idle (PSS of all processes)", cells: map[string]string{}}
	for _, known := range b.engines {
		if known.start == nil {
			continue
		}
		e, err := b.fresh(known.name)
		if err != nil {
			return nil, err
		}
		time.Sleep(2 * time.Second)
		r.cells[e.name] = fmt.Sprintf("%.1f MB", e.pss())
		if err := e.destroy(); err != nil {
			return nil, err
		}
	}
	return []result{r}, nil
}

// talker prints a line a second without starting a program for it: what is measured is the engine.
const talker = `mkfifo /tmp/f && exec 3<>/tmp/f && while :; do echo line; read -t 1 x <&3; done`

func many(b *bench) ([]result, error) {
	r := result{what: "1,000 with a port and a line a second (peers 50), ten started a second: the first 20 / the last 20", cells: map[string]string{}}
	burst := result{what: "– those between, back to back: the first 100 / the last 100 (peers 5)", bar: "reported", cells: map[string]string{}}
	load := result{what: "– engine CPU, per 1,000 containers", bar: "< 10 % of a core", cells: map[string]string{}}
	mem := result{what: "– engine memory per container (PSS)", bar: "≤ 0.1 MB", cells: map[string]string{}}
	rm := result{what: "– rm -f of all of them, one command", bar: "reported", cells: map[string]string{}}
	for _, known := range b.engines {
		n := b.size(known, 1000, 50)
		e, err := b.fresh(known.name)
		if err != nil {
			return nil, err
		}
		var f *floorProcess
		if known == b.ours() {
			if f, err = b.startFloorBeside(e); err != nil {
				return nil, closing(e, err)
			}
		}
		if err := e.crowd(n, f, &r, &burst, load.cells, mem.cells, rm.cells); err != nil {
			return nil, closing(e, err)
		}
		if f != nil {
			if err := f.close(); err != nil {
				return nil, closing(e, err)
			}
		}
		if err := e.destroy(); err != nil {
			return nil, err
		}
	}
	return []result{r, burst, load, mem, rm}, nil
}

// crowd starts n talkers, watches them, and removes them: the first twenty and the last ten a second, those between back
// to back. A floor that is given tells what the kernel itself takes for a container beside none and beside nearly all.
func (e *engine) crowd(n int, floor *floorProcess, paced, burst *result, load, mem, removal map[string]string) error {
	var beside [2]time.Duration
	lives := func(when int) error {
		if floor == nil {
			return nil
		}
		s, _, err := floor.block(20, 0)
		beside[when] = s.median()
		return err
	}
	if err := lives(0); err != nil {
		return err
	}
	time.Sleep(time.Second)
	idle := e.pss()
	port := map[string]any{
		"ExposedPorts": map[string]any{"80/tcp": map[string]any{}},
		"HostConfig":   map[string]any{"PortBindings": map[string]any{"80/tcp": []map[string]string{{"HostIp": "127.0.0.1"}}}},
	}
	var s sample
	start := func(to int, pause time.Duration) error {
		for i := len(s); i < to; i++ {
			time.Sleep(pause)
			t := time.Now()
			id, err := e.api.create(fmt.Sprintf("?name=bench-%d", i), port, "sh", "-c", talker)
			if err == nil {
				err = e.api.start(id)
			}
			if err != nil {
				return fmt.Errorf("container %d: %w", i+1, err)
			}
			s = append(s, time.Since(t))
		}
		return nil
	}
	if err := start(20, 100*time.Millisecond); err != nil {
		return err
	}
	if err := start(n-20, 0); err != nil {
		return err
	}
	if err := lives(1); err != nil {
		return err
	}
	time.Sleep(time.Second)
	if err := start(n, 100*time.Millisecond); err != nil {
		return err
	}
	tell := func(r *result, first, last sample) {
		r.cells[e.name] = ms(first.median()) + " / " + ms(last.median())
		if floor != nil {
			r.ratio = ratio(last.median(), first.median()) + "× the first"
		}
	}
	tell(paced, s[:20], s[n-20:])
	m := min(100, n/2-20)
	tell(burst, s[20:20+m], s[n-20-m:n-20])
	if floor != nil {
		burst.floor = ms(beside[0]) + " / " + ms(beside[1])
		burst.ratio += "; floor " + ratio(beside[1], beside[0]) + "×"
	}
	time.Sleep(3 * time.Second)
	before, t := e.cpuTime(), time.Now()
	time.Sleep(10 * time.Second)
	share := float64(e.cpuTime()-before) / float64(time.Since(t)) * 100 / float64(n) * 1000
	load[e.name] = fmt.Sprintf("%.1f %%", share)
	mem[e.name] = fmt.Sprintf("%.3f MB", (e.pss()-idle)/float64(n))
	for _, i := range []int{0, n - 1} { // they do talk
		out, err := e.must("logs", "--tail", "2", fmt.Sprintf("bench-%d", i))
		if err != nil {
			return err
		}
		if strings.Count(out, "line") != 2 {
			return fmt.Errorf("container %d has logged %q", i+1, out)
		}
	}
	args := []string{"rm", "-f"}
	if e.name == "podman" {
		args = append(args, "-t", "0")
	}
	for i := range n {
		args = append(args, fmt.Sprintf("bench-%d", i))
	}
	t = time.Now()
	if _, err := e.must(args...); err != nil {
		return err
	}
	removal[e.name] = fmt.Sprintf("%.1f s", time.Since(t).Seconds())
	return nil
}
