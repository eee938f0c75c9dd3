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

// numbered prints lines 1…n on both streams, in long and short pieces, and exits 5.
const numbered = `i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo "out $i"; [ $((i%7)) = 0 ] && echo "err $i" >&2; done; exit 5`

func wantNumbered(t *testing.T, out, errs string) {
	t.Helper()
	var o, e strings.Builder
	for i := 1; i <= 3000; i++ {
		fmt.Fprintf(&o, "out %d\n", i)
		if i%7 == 0 {
			fmt.Fprintf(&e, "err %d\n", i)
		}
	}
	compare(t, "stdout", out, o.String())
	compare(t, "stderr", errs, e.String())
}

func compare(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Errorf("%s: line %d is %q, want %q (%d lines, want %d)", what, i+1, g[i], w[i], len(g), len(w))
			return
		}
	}
	t.Errorf("%s: %d lines, want %d", what, len(g), len(w))
}

func (w *world) failAt(name string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.root, "fail.new"), []byte(name), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(w.root, "fail.new"), filepath.Join(w.root, "fail")); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) struck() bool {
	_, err := os.Stat(filepath.Join(w.root, "fail"))
	return os.IsNotExist(err)
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
			name := step
			if both {
				name += " both"
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
				w.failAt(name)
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
	w.failAt("spool-spliced")
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

// TestUpgradeUnderLoad replaces the keeper by exec, several times, while a process prints.
func TestUpgradeUnderLoad(t *testing.T) {
	w := newWorld(t)
	l := w.launch("ab", numbered)
	w.start(l)
	for range 5 {
		if err := w.d.Upgrade(w.ctx, filepath.Join(w.root, "bin", "keeper")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if x := w.exit(); x.Code != 5 || x.Unknown {
		t.Errorf("exit = %+v", x)
	}
	out, errs := w.logged(l.Log.Path)
	wantNumbered(t, out, errs)
}

// TestSlowClient: one who does not read stops neither the process nor others, and hears what it missed.
func TestSlowClient(t *testing.T) {
	w := newWorld(t)
	l := w.launch("ac", `i=0; while [ $i -lt 200 ]; do i=$((i+1)); head -c 65536 /dev/zero | tr '\0' x; echo; done`)
	l.Log = w.launch("ac", "").Log
	l.Log.Driver = "none"
	slow, err := w.d.Follow(w.ctx, l.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fast, err := w.d.Follow(w.ctx, l.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer fast.Close()
	w.start(l)
	if _, err := slow.Next(w.ctx); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(w.ctx, fast)
	if err != nil || strings.Count(got, "x") != 200*65536 {
		t.Errorf("the fast client got %d bytes, %v", len(got), err)
	}
	if x := w.exit(); x.Code != 0 {
		t.Errorf("exit = %+v", x)
	}
	rest, err := readAll(w.ctx, slow)
	if err != nil || !strings.Contains(rest, "bytes of output are missing here") {
		t.Errorf("the slow client got %d bytes, %v, and no word of what is missing", len(rest), err)
	}
}

// BenchmarkLog measures payload of short lines into a json-file.
func BenchmarkLog(b *testing.B) {
	w := newWorld(b)
	const size = 20 << 20
	for i := range b.N {
		l := w.launch("ad"+strconv.Itoa(i), fmt.Sprintf(`yes | head -c %d`, size))
		l.Log.Options = nil
		b.SetBytes(size)
		w.start(l)
		w.exit()
		_ = w.d.Forget(w.ctx, l.Key)
	}
}
