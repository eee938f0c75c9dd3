package compat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// result is what a user saw of one command.
type result struct {
	out, err string
	code     int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.code, r.out, r.err)
}

// side is one engine with a working folder of its own.
type side struct {
	engine *testkit.Engine
	home   string
}

func (s side) run(command string) result {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", fmt.Sprint(s.engine.PID()), "-n", "sh", "-c", command)
	cmd.Dir = s.home
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+s.engine.Socket, "DOCKER_CONFIG="+filepath.Join(s.home, ".docker"), "HOME="+s.home, "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	r := result{out: comparable(out.String()), err: comparable(errs.String())}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
	} else if err != nil {
		r.code = -1
		r.err += err.Error()
	}
	return r
}

// reset removes what a scenario left, so that the next starts from the same state.
func (s side) reset() {
	s.run(`docker ps -aq | xargs -r docker rm -f -v; docker volume ls -q | xargs -r docker volume rm; docker network ls -q -f type=custom | xargs -r docker network rm; ` +
		`docker images -q --no-trunc | sort -u | grep -v "$(docker images -q --no-trunc bb)" | xargs -r docker rmi -f; docker images --format '{{.Repository}}:{{.Tag}}' | grep -v '^bb:latest$' | xargs -r docker rmi; rm -rf ./* `)
}

func newSide(t *testing.T, docker bool) side {
	e := testkit.Start(t, testkit.Options{Docker: docker, OwnNamespaces: true})
	home := filepath.Join(e.Dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(e.Dir, "bb.tar")
	if err := imagemaker.WriteBusybox(archive, "bb:latest"); err != nil {
		t.Fatal(err)
	}
	e.Must(t, "load", "-q", "-i", archive)
	return side{engine: e, home: home}
}

// attempts is how often a scenario is played before a difference counts: two engines on a busy
// machine do not always meet the same second.
const attempts = 3

// TestCompat is the suite. GANTRY_COMPAT=substring runs the scenarios whose key contains it.
func TestCompat(t *testing.T) {
	all, err := scenarios()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 300 {
		t.Errorf("%d scenarios, at least 300 are needed", len(all))
	}
	excepted, err := exceptions()
	if err != nil {
		t.Fatal(err)
	}
	only := os.Getenv("GANTRY_COMPAT")
	peer, ours := newSide(t, true), newSide(t, false)
	same, listed := 0, 0
	for _, s := range all {
		if !strings.Contains(s.key(), only) {
			continue
		}
		t.Run(s.key(), func(t *testing.T) {
			e := excepted[s.key()]
			diff := ""
			for range attempts {
				var a, b []result
				var wg sync.WaitGroup
				wg.Go(func() { a = play(peer, s) })
				wg.Go(func() { b = play(ours, s) })
				wg.Wait()
				if diff = compare(s, a, b); (diff == "") == (e == nil) { // as expected
					break
				}
			}
			switch {
			case diff == "" && e == nil:
				same++
			case diff == "":
				t.Errorf("no difference any more: strike the exception (%s)", e.reason)
			case e != nil:
				e.used = true
				listed++
			default:
				t.Error(diff)
			}
		})
	}
	if only == "" {
		for _, e := range excepted {
			if !e.used {
				t.Errorf("exceptions.txt names %s, which was not met", e.scenario)
			}
		}
	}
	t.Logf("%d scenarios alike, %d differ as listed", same, listed)
}

func play(s side, sc scenario) []result {
	defer s.reset()
	rs := make([]result, len(sc.commands))
	for i, c := range sc.commands {
		rs[i] = s.run(c)
	}
	return rs
}

func compare(s scenario, a, b []result) string {
	var d strings.Builder
	for i, c := range s.commands {
		if a[i] != b[i] {
			fmt.Fprintf(&d, "$ %s\n--- dockerd: %s\n--- gantryd: %s\n", c, a[i], b[i])
		}
	}
	return d.String()
}

func TestComparable(t *testing.T) {
	for in, want := range map[string]string{
		"a 0123456789ab b":                          "a <id12> b",
		"Exited (0) 3 seconds ago":                  "Exited (0) <duration>",
		"Up Less than a second":                     "Up <duration>",
		"x      y":                                  "x   y",
		"2026-01-02T03:04:05.678Z 172.17.0.3":       "<time> <ip>",
		"sha256:" + strings.Repeat("0f", 32) + "\n": "<digest>",
	} {
		if got := comparable(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
