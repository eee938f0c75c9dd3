package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// whom says which processes die at a point.
var whom = []struct{ name, victims string }{
	{"itself", "self"},
	{"gantryd", "gantryd"},
	{"keeper", "gantry-keeper"},
	{"gantryd and keeper", "gantryd,gantry-keeper"},
	{"anchor", "gantry-anchor"},
	{"keeper and anchor", "gantry-keeper,gantry-anchor"},
}

// TestFailpoints kills at every failpoint of the source: once each, the victims taken in turn, or with
// GANTRY_CRASH_MATRIX=all every point with every set of victims. A point that no scenario
// reaches fails.
func TestFailpoints(t *testing.T) {
	seed := number(t, "GANTRY_CRASH_SEED", int(time.Now().UnixNano()&0x7fffffff))
	rnd := rand.New(rand.NewPCG(uint64(seed), 2))
	all := points(t)
	if only := os.Getenv("GANTRY_CRASH_POINT"); only != "" {
		re, err := regexp.Compile(only)
		if err != nil {
			t.Fatal(err)
		}
		all = slices.DeleteFunc(all, func(p string) bool { return !re.MatchString(p) })
	}
	l := newLab(t)
	began := time.Now()
	by, err := l.survey(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d; %d points; the scenarios without a kill took %v", seed, len(all), time.Since(began).Round(time.Millisecond))
	kills := map[string]int{}
	for i, p := range all {
		if len(by[p]) == 0 && beyond(p) {
			t.Logf("this kernel has no dummy interfaces: %s is not reached", p)
			continue
		}
		if len(by[p]) == 0 {
			t.Errorf("no scenario reaches the failpoint %s", p)
			continue
		}
		for j, w := range whom {
			if !wanted(p, w.name, i, j, seed) {
				continue
			}
			ok := t.Run(p+"/"+strings.ReplaceAll(w.name, " ", "_"), func(t *testing.T) {
				if err := l.try(by[p], p, w.victims, rnd.IntN(3)); err != nil {
					t.Error(err)
				}
			})
			kills[w.name]++
			if !ok {
				if err := errors.Join(l.settle(), l.unharmed()); err != nil {
					t.Fatalf("what stands is harmed, the engine is of no use any more: %v", err)
				}
			}
		}
	}
	if err := l.clean(); err != nil {
		t.Error(err)
	}
	t.Logf("%d points, kills by victim: %v, in %v", len(all), kills, time.Since(began).Round(time.Second))
	l.end(t)
}

// wanted decides which cases are run: with "all", whatever is not the same as "itself"; else one of
// the sets for each point, another for the next.
func wanted(point, who string, i, j, seed int) bool {
	process, _, _ := strings.Cut(point, ".")
	if who == process {
		return false // the same as "itself"
	}
	if os.Getenv("GANTRY_CRASH_MATRIX") == "all" {
		return true
	}
	for k := range whom {
		// The next set that is not the point's own process.
		at := (i + seed + k) % len(whom)
		if whom[at].name != process {
			return at == j
		}
	}
	return false
}

// survey runs every scenario without a kill: what must hold holds then too, and the points it
// reaches are noted.
func (l *lab) survey(t *testing.T) (map[string][]int, error) {
	by := map[string][]int{}
	note := func(i int) error {
		time.Sleep(50 * time.Millisecond) // what goes on behind the answer
		reached, err := l.hits()
		for _, p := range reached {
			if !slices.Contains(by[p], i) {
				by[p] = append(by[p], i)
			}
		}
		return err
	}
	// The first round makes what stays: folders, the helper, pools.
	for i := range scenarios {
		if err := errors.Join(l.play(i, false), l.settle(), note(i)); err != nil {
			return nil, err
		}
	}
	if err := l.settle(); err != nil {
		return nil, err
	}
	time.Sleep(time.Second) // records that are to be saved soon are
	var err error
	if l.base, err = l.look(); err != nil {
		return nil, err
	}
	for i, s := range scenarios {
		began := time.Now()
		if err := l.play(i, false); err != nil {
			return nil, err
		}
		if err := errors.Join(l.settle(), l.unharmed()); err != nil {
			return nil, fmt.Errorf("scenario %q: %w", s.name, err)
		}
		took := time.Since(began)
		if err := errors.Join(l.clean(), note(i)); err != nil {
			return nil, fmt.Errorf("scenario %q: %w", s.name, err)
		}
		t.Logf("scenario %q: %v, clean after %v", s.name, took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
	l.disarm()
	return by, nil
}

// blind tells whether keeper and anchor are dead at one time, by the strike or because the scenario
// kills one of them and the strike the other.
func blind(point, victims, scenario string) bool {
	if victims == "self" {
		victims, _, _ = strings.Cut(point, ".")
	}
	keeper := strings.Contains(victims, "keeper") || scenario == "keeper dies" || scenario == "half launched" || scenario == "both die"
	anchor := strings.Contains(victims, "anchor") || scenario == "anchor dies" || scenario == "both die"
	return keeper && anchor
}

// trialName is what a trial's container is called: nothing that could begin the ID of another one.
const trialName = "trial%d"

// play runs a scenario in a container of its own name.
func (l *lab) play(i int, blind bool) error {
	l.n++
	c := &trial{lab: l, name: fmt.Sprintf(trialName, l.n), blind: blind}
	if err := os.MkdirAll(c.out(), 0o777); err != nil {
		return err
	}
	if err := scenarios[i].run(c); err != nil {
		return fmt.Errorf("scenario %q: %w", scenarios[i].name, err)
	}
	return nil
}

// try arms a point, runs the scenario that reaches it, and checks everything.
func (l *lab) try(usable []int, point, victims string, skip int) error {
	defer l.disarm()
	if err := l.settle(); err != nil {
		return err
	}
	l.disarm()
	var errs []error
	for n := range max(12, len(usable)+1) {
		i := usable[n%len(usable)]
		if n >= 2 {
			skip = 0
		}
		if err := l.arm("arm", point, victims, skip); err != nil {
			return err
		}
		if err := l.play(i, blind(point, victims, scenarios[i].name)); err != nil {
			errs = append(errs, err)
		}
		for range 50 { // some points come a while after
			if len(errs) > 0 || l.struck(point) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if len(errs) > 0 || l.struck(point) {
			break
		}
		l.disarm()
	}
	if !l.struck(point) && len(errs) == 0 {
		var names []string
		for _, i := range usable {
			names = append(names, scenarios[i].name)
		}
		errs = append(errs, fmt.Errorf("none of the scenarios %q reached the point", names))
	}
	l.disarm()
	errs = append(errs, l.settle(), l.unharmed())
	// Some things go a second later; the short run looks for leftovers of eight kills at once.
	l.tries++
	if errors.Join(errs...) == nil {
		if l.tries%8 == 0 || os.Getenv("GANTRY_CRASH_MATRIX") == "all" {
			errs = append(errs, l.clean(), l.sound())
		}
	} else {
		l.purge()
	}
	return errors.Join(errs...)
}

// purge removes what a failed trial has left, so that the next one begins as this one.
func (l *lab) purge() {
	for n := max(1, l.n-6); n <= l.n; n++ {
		for _, suffix := range []string{"", "v"} {
			_ = l.remove(fmt.Sprintf(trialName+"%s", n, suffix))
		}
	}
}

// end stops the standing containers and looks at all they have said.
func (l *lab) end(t *testing.T) {
	if n, err := l.echo.stop(); err != nil || n == 0 {
		t.Errorf("the connection to the published port broke after %d echoes: %v", n, err)
	}
	for _, name := range []string{"writer0", "writer1"} {
		l.e.Must(t, "stop", "-t", "10", name)
		if code := l.e.Must(t, "inspect", "-f", "{{.State.ExitCode}}", name); code != "23" {
			t.Errorf("%s: exit code %s, want 23", name, code)
		}
		checkLines(t, name, l.e.Must(t, "logs", name))
	}
}
