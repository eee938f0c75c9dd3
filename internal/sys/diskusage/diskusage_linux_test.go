package diskusage

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// du is the reference.
func du(t *testing.T, p string) int64 {
	t.Helper()
	out, err := exec.Command("du", "-s", "-x", "--block-size=1", p).Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAsDu(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a/one", 1)
	write("a/big", 3<<20)
	write("b/c/d/e", 5000)
	if err := os.Link(filepath.Join(dir, "a/big"), filepath.Join(dir, "b/again")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "b/link")); err != nil {
		t.Fatal(err)
	}
	write("sparse", 0)
	if err := os.Truncate(filepath.Join(dir, "sparse"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sync", "-f", dir).CombinedOutput(); err != nil {
		t.Fatalf("sync: %v: %s", err, out)
	}
	got, err := Of(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := du(t, dir); got != want {
		t.Errorf("Of says %d bytes, du %d", got, want)
	}
	c := new(Counter)
	a, errA := c.Of(context.Background(), filepath.Join(dir, "a"))
	b, errB := c.Of(context.Background(), filepath.Join(dir, "b"))
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if a < 3<<20 || b > 1<<20 {
		t.Errorf("the file with two names counts %d in the first tree and %d in the second", a, b)
	}
	if n, err := Of(context.Background(), filepath.Join(dir, "not-there")); n != 0 || err != nil {
		t.Errorf("what is not there takes %d (%v)", n, err)
	}
}
