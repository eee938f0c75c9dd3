package keeper_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
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
