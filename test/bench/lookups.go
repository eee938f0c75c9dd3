package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/gantry-engine/gantry/test/bench/dns"
)

// How long each measurement of lookups lasts, and how many of each there are in turn.
const (
	lookupTime   = 2 * time.Second
	lookupRounds = 3
	lookupPace   = 5000 // a second
)

// lookups asks the DNS server of a container on a network of its own for another container: as fast as it answers, and
// at a steady pace. Podman's is another one, at another address.
func lookups(b *bench) (_ []result, err error) {
	r := result{what: "DNS lookups of a container's name, one socket with 128 on their way", bar: "≥ 5× docker", cells: map[string]string{}}
	l := result{what: fmt.Sprintf("– at %d a second: the 50th / 99th of 100", lookupPace), bar: "99th < 1 ms", cells: map[string]string{}}
	var sides []*asked
	for _, e := range b.engines {
		if e.name == "podman" {
			continue
		}
		s, err := askAt(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		defer func() { err = errors.Join(err, s.close()) }()
		sides = append(sides, s)
	}
	for range lookupRounds {
		for _, s := range sides {
			if err := s.measure(); err != nil {
				return nil, fmt.Errorf("%s: %w", s.engine.name, err)
			}
		}
	}
	for _, s := range sides {
		slices.Sort(s.rates)
		slices.Sort(s.times)
		r.cells[s.engine.name] = fmt.Sprintf("%.0f/s", s.rates[len(s.rates)/2])
		l.cells[s.engine.name] = ms(dns.Percentile(s.times, 50)) + " / " + ms(dns.Percentile(s.times, 99))
		if s.engine.name == "docker" {
			r.ratio = fmt.Sprintf("%.1f× docker", sides[0].rates[len(sides[0].rates)/2]/s.rates[len(s.rates)/2])
		}
	}
	return []result{r, l}, nil
}

// asked is one engine's container.
type asked struct {
	engine *engine
	ns     *os.File
	rates  []float64
	times  []time.Duration
}

const lookupName = "bench-lookups"

// askAt starts a container on a network of its own.
func askAt(e *engine) (_ *asked, err error) {
	s := &asked{engine: e}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if _, err := e.must("network", "create", lookupName); err != nil {
		return nil, err
	}
	if _, err := e.must("run", "-d", "--name", lookupName, "--network", lookupName, "bb", "sleep", "3600"); err != nil {
		return nil, err
	}
	pid, err := e.must("inspect", "-f", "{{.State.Pid}}", lookupName)
	if err != nil {
		return nil, err
	}
	s.ns, err = os.Open("/proc/" + pid + "/ns/net")
	return s, err
}

func (s *asked) measure() error {
	rate, err := dns.Rate(s.ns, lookupName, lookupTime)
	if err != nil {
		return err
	}
	s.rates = append(s.rates, rate)
	times, err := dns.Paced(s.ns, lookupName, lookupPace, lookupTime)
	s.times = append(s.times, times...)
	return err
}

func (s *asked) close() error {
	if s.ns != nil {
		_ = s.ns.Close()
	}
	_, err := s.engine.must("rm", "-f", lookupName)
	_, err2 := s.engine.must("network", "rm", lookupName)
	return errors.Join(err, err2)
}
