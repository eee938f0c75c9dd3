package atomicfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSweepTakesOnlyWhatWritersLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b]*")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"f", ".f.tmp-1", ".f.tmp-22", ".g.tmp-1", "f.tmp-1"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != ".g.tmp-1 f f.tmp-1" {
		t.Errorf("left: %s", got)
	}
}

func TestReplaces(t *testing.T) {
	for name, write := range map[string]func(string, []byte, os.FileMode) error{"durable": Write, "volatile": WriteVolatile} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "f")
			for _, s := range []string{"one", "two"} {
				if err := write(p, []byte(s), 0o640); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(p)
				if err != nil || string(got) != s {
					t.Fatalf("read %q, %v; want %q", got, err, s)
				}
			}
			st, err := os.Stat(p)
			if err != nil || st.Mode().Perm() != 0o640 {
				t.Fatalf("mode %v, %v; want 0640", st.Mode(), err)
			}
			left, err := os.ReadDir(filepath.Dir(p))
			if err != nil || len(left) != 1 {
				t.Fatalf("%d files in the folder (%v), want 1", len(left), err)
			}
		})
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "d")
	if err := os.MkdirAll(filepath.Join(target, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(target, []byte("x"), 0o600); err == nil {
		t.Fatal("a folder was replaced by a file")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Fatalf("left behind: %v %v", left, err)
	}
}
