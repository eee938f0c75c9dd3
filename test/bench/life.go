package main

import (
	"fmt"
	"time"
)

// settle is how long an engine is left alone after its turn: the pools' refill belongs
// to its bill, and must not disturb the next one's.
const settle = 150 * time.Millisecond

// side is one of those that take turns.
type side struct {
	times sample
	cpu   time.Duration
}

func (s side) each() time.Duration { return s.cpu / time.Duration(max(len(s.times), 1)) }

// lives runs n life cycles of one engine, one every so often (0 is back to back).
func (s *side) lives(e *engine, n int, every time.Duration, took func(call int, d time.Duration)) error {
	before := e.cpuTime()
	next := time.Now()
	for range n {
		if every > 0 {
			time.Sleep(time.Until(next))
			next = next.Add(every)
		}
		t := time.Now()
		if err := e.api.cycle(took); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		s.times = append(s.times, time.Since(t))
	}
	time.Sleep(settle)
	s.cpu += e.cpuTime() - before
	return nil
}

func cycle(b *bench) ([]result, error) {
	return b.lifeRow("create+start+wait+delete, default network, back to back", 0)
}

func paced(b *bench) ([]result, error) {
	return b.lifeRow("the same, one every 20 ms", 20*time.Millisecond)
}

// lifeRow lets the floor and all engines take turns; peers, which take much longer, do fewer.
func (b *bench) lifeRow(what string, every time.Duration) ([]result, error) {
	f, err := b.startFloor()
	if err != nil {
		return nil, err
	}
	defer f.close()
	var floor side
	sides := make([]side, len(b.engines))
	if _, _, err := f.block(3, 0); err != nil { // warm
		return nil, err
	}
	for _, e := range b.engines {
		if err := new(side).lives(e, 3, 0, nil); err != nil {
			return nil, err
		}
	}
	for left := b.n; left > 0; left -= b.block {
		n := min(b.block, left)
		s, cpu, err := f.block(n, every)
		if err != nil {
			return nil, err
		}
		floor.times, floor.cpu = append(floor.times, s...), floor.cpu+cpu
		for i, e := range b.engines {
			if err := sides[i].lives(e, e.repeats(n, 5, 1), every, nil); err != nil {
				return nil, err
			}
		}
	}
	r := result{what: what + ": median (min, p90)", cells: map[string]string{}, floor: floor.times.spread(), ratio: ratio(sides[0].times.median(), floor.times.median()) + "× floor"}
	c := result{what: "– CPU time of one, all processes", cells: map[string]string{}, floor: ms(floor.each()), ratio: ratio(sides[0].each(), floor.each()) + "× floor", bar: "reported"}
	for i, e := range b.engines {
		r.cells[e.name], c.cells[e.name] = sides[i].times.spread(), ms(sides[i].each())
	}
	return []result{r, c}, nil
}

// steps tells the calls of a life cycle apart.
func steps(b *bench) ([]result, error) {
	names := []string{"create", "start", "wait", "delete"}
	rs := make([]result, len(names))
	for i, n := range names {
		rs[i] = result{what: "– " + n + ": median (min, p90)", cells: map[string]string{}}
	}
	for _, e := range b.engines {
		took := make([]sample, len(names))
		if err := new(side).lives(e, e.repeats(b.n, 10, 3), 0, func(call int, d time.Duration) { took[call] = append(took[call], d) }); err != nil {
			return nil, err
		}
		for call := range names {
			rs[call].cells[e.name] = took[call].spread()
		}
	}
	return rs, nil
}

// burst runs 500 lives on engines that have just been started, in turn with as many of the floor; peers, who have no pools, run 25.
func burst(b *bench) ([]result, error) {
	f, err := b.startFloor()
	if err != nil {
		return nil, err
	}
	defer f.close()
	r := result{what: "burst, pools cold (500; peers 25), mean of one", cells: map[string]string{}}
	var floor sample
	var ours time.Duration
	for i, e := range b.engines {
		n, peer := 500, i > 0
		if !peer {
			if e, err = b.fresh(e.name); err != nil {
				return nil, err
			}
		} else {
			n = 25
		}
		var total time.Duration
		for range n / 25 { // both sides under the same weather
			if !peer {
				s, _, err := f.block(10, 0)
				if err != nil {
					return nil, closing(e, err)
				}
				floor = append(floor, s...)
			}
			t := time.Now()
			for range 25 {
				if err = e.api.cycle(nil); err != nil {
					break
				}
			}
			total += time.Since(t)
			if err != nil {
				if !peer {
					err = closing(e, err)
				}
				return nil, err
			}
		}
		r.cells[e.name] = ms(total / time.Duration(n))
		if !peer {
			ours = total / time.Duration(n)
			if err := e.destroy(); err != nil {
				return nil, err
			}
		}
	}
	r.floor, r.ratio = ms(floor.mean()), ratio(ours, floor.mean())+"× floor"
	return []result{r}, nil
}

// closing ends an engine of a row's own after a failure.
func closing(e *engine, err error) error {
	if derr := e.destroy(); derr != nil {
		return fmt.Errorf("%w (and stopping %s: %v)", err, e.name, derr)
	}
	return err
}
