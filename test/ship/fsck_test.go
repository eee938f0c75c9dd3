package ship

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

// fsck runs the check and wants an exit code and a text.
func fsck(t *testing.T, e *testkit.Engine, code int, text string, args ...string) string {
	t.Helper()
	out, errs, got := e.Gantry(append([]string{"system", "fsck"}, args...)...)
	if got != code || !strings.Contains(out, text) {
		t.Errorf("fsck %v: exit %d, want %d and %q in\n%s%s", args, got, code, text, out, errs)
	}
	return out
}

// layerFile is a file in an unpacked layer.
func layerFile(t *testing.T, e *testkit.Engine, name string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(e.DataRoot, "layers/layers/*/fs", name))
	if len(found) != 1 {
		t.Fatalf("%s is in %d layers", name, len(found))
	}
	return found[0]
}

// scribble changes a byte of a file, and not its times.
func scribble(t *testing.T, p string) {
	t.Helper()
	st, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, st.Size()/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, st.Size()/2); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, st.Mode()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(p, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// What is damaged is found, named with the images that need it, and brought back from the registry; what cannot be brought
// back is told, and an engine that is well has nothing to tell.
func TestFsck(t *testing.T) {
	e, r := engine(t), registry.New(t)
	name, _ := addImage(r, "app", layer("one", mega), layer("second", mega/2))
	e.Must(t, "pull", "-q", name)
	settles(t, e)
	e.Must(t, "run", "-d", "--name", "runs", "bb", "sleep", "1000")
	fsck(t, e, 0, "all is well")

	scribble(t, layerFile(t, e, "one"))
	if err := os.Chmod(layerFile(t, e, "second"), 0o777); err != nil {
		t.Fatal(err)
	}
	out := fsck(t, e, 1, "2 problems")
	for _, want := range []string{"layer ", "damaged (of " + name + ")", "has the mode 777 instead of 644"} {
		if !strings.Contains(out, want) {
			t.Errorf("fsck: %q is not in\n%s", want, out)
		}
	}
	fsck(t, e, 0, "2 problems, 2 repaired", "--repair")
	settles(t, e)
	fsck(t, e, 0, "all is well")
	if out := e.Must(t, "image", "inspect", "-f", "{{len .RootFS.Layers}}", name); out != "2" {
		t.Errorf("%s layers", out)
	}

	// A manifest that is damaged, and a file that belongs to nothing.
	id := strings.TrimPrefix(e.Must(t, "images", "-q", "--no-trunc", name), "sha256:")
	scribble(t, filepath.Join(e.DataRoot, "content/blobs/sha256", id))
	orphan := filepath.Join(e.DataRoot, "content/blobs/sha256", strings.Repeat("ab", 32))
	if err := os.WriteFile(orphan, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(e.DataRoot, "layers/layers", strings.Repeat("cd", 32))
	if err := os.MkdirAll(filepath.Join(stray, "fs"), 0o700); err != nil {
		t.Fatal(err)
	}
	fsck(t, e, 1, "3 problems")
	fsck(t, e, 0, "3 repaired", "--repair")
	for range 100 {
		if _, err := os.Stat(stray); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, p := range []string{orphan, stray} {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("%s is still there", p)
		}
	}
	fsck(t, e, 0, "all is well")

	// No registry has the loaded image: that is said, and nothing is made worse.
	scribble(t, layerFile(t, e, "bin/busybox"))
	fsck(t, e, 1, "pull or load it again", "--repair")
	if out := e.Must(t, "inspect", "-f", "{{.State.Running}}", "runs"); out != "true" {
		t.Error("the check ended a container")
	}
	e.Must(t, "rm", "-f", "runs")
}
