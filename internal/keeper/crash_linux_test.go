//go:build failpoints

package keeper_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// failAt kills victims ("keeper", "keeper,anchor") when the keeper comes to a point.
func (w *world) failAt(point, victims string) {
	w.t.Helper()
	arm := filepath.Join(w.root, "failpoints", "arm")
	if err := os.WriteFile(arm+".new", []byte(point+" 0 "+victims+" "+w.root), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(arm+".new", arm); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) struck() bool {
	_, err := os.Stat(filepath.Join(w.root, "failpoints", "struck"))
	return err == nil
}

// TestKillAtEachStep kills the keeper — alone, and together with the anchor — at each step of
// handling output and exits, while a process prints. Nothing may be lost or doubled. (With both gone,
// what a FIFO holds lives as long as the process: it must not end before the next keeper is there.)
func TestKillAtEachStep(t *testing.T) {
	for _, both := range []bool{false, true} {
		for _, step := range []string{
			"spool-intent", "spool-spliced", "spool-framed", "log-batch", "log-write", "log-written", "log-committed",
			"log-rotate", "log-rotated", "exit-seen", "exit-recorded", "exit-reaped",
		} {
			name, victims := step, "keeper"
			if both {
				name, victims = step+" both", "keeper,anchor"
			}
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				l := w.launch("ee", numbered)
				l.Log.Options = map[string]string{"max-size": "64k", "max-file": "20"}
				r, err := w.d.Follow(w.ctx, l.Key)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if both {
					l.OCI.Process.Args[0] = strings.Replace(numbered, "exit 5", "sleep 1; exit 5", 1)
				}
				w.start(l)
				w.failAt("keeper."+step, victims)
				seen, err := readAll(w.ctx, r)
				if err != nil {
					t.Errorf("attached: %v", err)
				}
				x := w.exit()
				if !w.struck() {
					t.Fatal("the step was never reached")
				}
				if x.Code != 5 && !(both && x.Unknown) {
					t.Errorf("exit = %+v", x)
				}
				var out, errs string
				for n := 19; n >= 0; n-- {
					path := l.Log.Path
					if n > 0 {
						path += "." + strconv.Itoa(n)
					}
					if _, err := os.Stat(path); err == nil {
						o, e := w.logged(path)
						out, errs = out+o, errs+e
					}
				}
				wantNumbered(t, out, errs)
				if n := strings.Count(seen, "\n"); n != 3000+3000/7 {
					t.Errorf("attached client saw %d lines", n)
				}
			})
		}
	}
}

func (w *world) anchorPID() int {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.root, "keeper", "anchor.pid"))
	if err != nil {
		w.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		w.t.Fatal(err)
	}
	return pid
}

// TestKillAnchor: keeper and containers live on, a new anchor holds, and then the keeper may die.
func TestKillAnchor(t *testing.T) {
	w := newWorld(t)
	l := w.launch("ff", `read x; echo $x; exit 6`)
	l.Stdin = true
	w.start(l)
	old := w.anchorPID()
	if err := unix.Kill(old, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if w.anchorPID() != old {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if w.anchorPID() == old {
		t.Fatal("no new anchor")
	}
	time.Sleep(100 * time.Millisecond) // it is given what it shall hold
	w.failAt("keeper.spool-spliced", "keeper")
	in, err := w.d.Handle(w.ctx, l.Key, "stdin")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "still here")
	in.Close()
	if x := w.exit(); x.Code != 6 && !x.Unknown {
		t.Errorf("exit = %+v", x)
	}
	if out, _ := w.logged(l.Log.Path); out != "still here\n" {
		t.Errorf("logged %q", out)
	}
}

// TestNonBlocking: a slow disk does not hold back a process whose log is non-blocking; what the buffer has
// no room for is counted and said. One whose log blocks waits and loses nothing.
func TestNonBlocking(t *testing.T) {
	for _, mode := range []string{"non-blocking", "blocking"} {
		t.Run(mode, func(t *testing.T) {
			const lines = 200000
			w := newWorld(t)
			l := w.launch("slow", fmt.Sprintf("yes 0123456789 | head -n %d; exit 6", lines))
			l.Log.Options = map[string]string{"max-size": "-1", "mode": mode}
			if mode == "non-blocking" {
				l.Log.Options["max-buffer-size"] = "256k"
			}
			w.failAt("keeper.log-write", "pause=50ms")
			w.start(l)
			if x := w.exit(); x.Code != 6 {
				t.Errorf("exit = %+v", x)
			}
			if err := os.Remove(filepath.Join(w.root, "failpoints", "arm")); err != nil {
				t.Fatal(err)
			}
			var out, notes string
			eventually(t, "the log is written to its end", func() bool {
				list, err := w.d.Ended(w.ctx)
				return err == nil && len(list) == 1
			})
			time.Sleep(200 * time.Millisecond)
			out, notes = w.logged(l.Log.Path)
			if mode == "blocking" {
				if len(out) != lines*11 || notes != "" {
					t.Errorf("logged %d bytes of %d, %q", len(out), lines*11, notes)
				}
				return
			}
			accounted(t, out, notes, lines*11)
		})
	}
}

// TestUpgradeWithoutAnchor kills the anchor at the instant in which the keeper executes another binary: what only the anchor
// held would be lost, a terminal above all.
func TestUpgradeWithoutAnchor(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		t.Run(fmt.Sprint("terminal ", terminal), func(t *testing.T) {
			w := newWorld(t)
			l := w.launch("ef", numbered)
			l.OCI.Process.Terminal = terminal
			w.start(l)
			w.failAt("keeper.upgrade-exec", "anchor")
			_ = w.d.Upgrade(w.ctx, filepath.Join(w.root, "bin", "keeper"))
			if x := w.exit(); x.Code != 5 || x.Unknown {
				t.Errorf("exit = %+v", x)
			}
			if !w.struck() {
				t.Fatal("the step was never reached")
			}
			out, errs := w.logged(l.Log.Path)
			if terminal { // both streams, and its own line ends
				if n, want := strings.Count(out, "\n"), 3000+3000/7; n != want || !strings.Contains(out, "out 3000") {
					t.Errorf("%d lines in the log, want %d", n, want)
				}
				return
			}
			wantNumbered(t, out, errs)
		})
	}
}
