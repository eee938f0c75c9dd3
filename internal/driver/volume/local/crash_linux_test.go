package local

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/spec"
)

// tree lists what lies below the volumes' folder.
func tree(t *testing.T, d *Driver) []string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(d.root, func(p string, e os.DirEntry, err error) error {
		must(t, err)
		rel, _ := filepath.Rel(d.root, p)
		if rel != "." {
			out = append(out, rel)
		}
		return nil
	}))
	return out
}

func knows(names ...string) func(string) bool {
	return func(n string) bool { return slices.Contains(names, n) }
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

// Every state that a crash can leave, and what the next start makes of it.
func TestSweepAfterEveryCrash(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, d *Driver)
		records []string
		want    string // what is left
		kept    string
	}{
		{"creation before its record", func(t *testing.T, d *Driver) { _, _, err := d.Create(t.Context(), "vol", nil); must(t, err) }, nil, "", ""},
		{"creation before its mark", func(t *testing.T, d *Driver) { must(t, os.Mkdir(d.dir("vol"), 0o701)) }, nil, "", ""},
		{"creation before its folder", func(t *testing.T, d *Driver) { write(t, filepath.Join(d.dir("vol"), creating), "") }, nil, "", ""},
		{"creation after its record", func(t *testing.T, d *Driver) { _, _, err := d.Create(t.Context(), "vol", nil); must(t, err) }, []string{"vol"}, "vol vol/_data", ""},
		{"creation marked, but there is content", func(t *testing.T, d *Driver) {
			_, _, err := d.Create(t.Context(), "vol", nil)
			must(t, err)
			write(t, filepath.Join(d.Path("vol"), "f"), "x")
		}, nil, "vol vol/_creating vol/_data vol/_data/f", "vol"},
		{"the records are lost", func(t *testing.T, d *Driver) {
			made(t, d, "vol")
			made(t, d, "empty")
			write(t, filepath.Join(d.Path("vol"), "f"), "x")
		}, nil, "empty empty/_data vol vol/_data vol/_data/f", "empty vol"},
		{"removal before the record went", func(t *testing.T, d *Driver) {
			made(t, d, "vol")
			write(t, filepath.Join(d.Path("vol"), "f"), "x")
			_, _, err := d.Remove(t.Context(), "vol")
			must(t, err)
		}, []string{"vol"}, "vol vol/_data vol/_data/f", ""},
		{"removal after the record went", func(t *testing.T, d *Driver) {
			made(t, d, "vol")
			write(t, filepath.Join(d.Path("vol"), "f"), "x")
			_, _, err := d.Remove(t.Context(), "vol")
			must(t, err)
		}, nil, "", ""},
		{"removal, and a new volume of the name", func(t *testing.T, d *Driver) {
			made(t, d, "vol")
			write(t, filepath.Join(d.Path("vol"), "old"), "x")
			_, _, err := d.Remove(t.Context(), "vol")
			must(t, err)
			made(t, d, "vol")
		}, []string{"vol"}, "vol vol/_data", ""},
		{"half a copy", func(t *testing.T, d *Driver) {
			made(t, d, "vol")
			write(t, filepath.Join(d.dir("vol"), filling, "f"), "x")
		}, []string{"vol"}, "vol vol/_data", ""},
		{"things that are not ours", func(t *testing.T, d *Driver) {
			write(t, filepath.Join(d.root, "metadata.db"), "x")
			write(t, filepath.Join(d.root, "vol", "docs"), "x")
		}, nil, "metadata.db vol vol/docs", "vol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := New(t.TempDir())
			must(t, err)
			c.prepare(t, d)
			for range 2 { // a second start changes nothing more
				kept, err := d.Sweep(t.Context(), knows(c.records...))
				must(t, err)
				if got := strings.Join(tree(t, d), " "); got != c.want {
					t.Errorf("left %q, want %q", got, c.want)
				}
				if got := strings.Join(kept, " "); got != c.kept {
					t.Errorf("kept %q, want %q", got, c.kept)
				}
			}
		})
	}
}

func TestUndo(t *testing.T) {
	d, err := New(t.TempDir())
	must(t, err)
	_, undo, err := d.Create(t.Context(), "vol", nil)
	must(t, err)
	must(t, undo())
	if got := tree(t, d); len(got) > 0 {
		t.Errorf("left %v", got)
	}
	write(t, filepath.Join(d.Path("vol"), "f"), "x") // content whose record was lost
	_, undo, err = d.Create(t.Context(), "vol", nil)
	must(t, err)
	must(t, undo())
	_, undo, err = d.Remove(t.Context(), "vol")
	must(t, err)
	must(t, undo())
	if got := strings.Join(tree(t, d), " "); got != "vol vol/_data vol/_data/f" {
		t.Errorf("after the undo: %s", got)
	}
	keep, _, err := d.Remove(t.Context(), "vol")
	must(t, err)
	must(t, keep())
	if got := tree(t, d); len(got) > 0 {
		t.Errorf("left %v", got)
	}
	long := strings.Repeat("n", 255)
	made(t, d, long)
	keep, _, err = d.Remove(t.Context(), long)
	must(t, err)
	must(t, keep())
	for _, bad := range []string{"", ".", "..", "a/b", ".removing-1"} {
		if _, _, err := d.Create(t.Context(), bad, nil); err == nil {
			t.Errorf("created %q", bad)
		}
		if _, _, err := d.Remove(t.Context(), bad); err == nil {
			t.Errorf("removed %q", bad)
		}
	}
	if err := d.Mount(t.Context(), "vol", nil); err == nil {
		t.Error("a volume whose folder is gone was mounted")
	}
}

// A volume that is a mount of its own, also one on the same file system as the data root.
func TestPopulateMounted(t *testing.T) {
	d, err := New(t.TempDir())
	must(t, err)
	img, device := t.TempDir(), t.TempDir()
	write(t, filepath.Join(img, "data/a"), "1")
	write(t, filepath.Join(img, "data/sub/b"), "2")
	must(t, os.Chmod(filepath.Join(img, "data"), 0o711))
	root := spec.Rootfs{Lower: []string{img}}
	ctx := t.Context()
	made(t, d, "vol")
	opts := map[string]string{"type": "none", "device": device, "o": "bind"}
	must(t, d.Mount(ctx, "vol", opts))
	t.Cleanup(func() { must(t, d.Unmount(ctx, "vol")) })
	check := func(when string) {
		t.Helper()
		var names []string
		must(t, filepath.WalkDir(device, func(p string, e os.DirEntry, err error) error {
			must(t, err)
			rel, _ := filepath.Rel(device, p)
			names = append(names, rel)
			return nil
		}))
		if got := strings.Join(names, " "); got != ". a sub sub/b" {
			t.Errorf("%s: %s", when, got)
		}
	}
	must(t, d.Populate(ctx, "vol", root, "/data"))
	check("filled")
	if fi, err := os.Stat(device); err != nil || fi.Mode().Perm() != 0o711 {
		t.Errorf("mode %v %v", fi.Mode(), err)
	}
	if b, _ := os.ReadFile(filepath.Join(device, "a")); string(b) != "1" {
		t.Errorf("content %q", b)
	}

	// A crash while copying: the copy is made anew.
	must(t, os.RemoveAll(filepath.Join(device, "a")))
	must(t, os.RemoveAll(filepath.Join(device, "sub")))
	write(t, filepath.Join(device, halfFilled, "a"), "half")
	must(t, d.Populate(ctx, "vol", root, "/data"))
	check("after a crash in the copy")

	// A crash while moving up: the rest follows at the next mount, what somebody wrote stays.
	must(t, os.Mkdir(filepath.Join(device, wholeFilled), 0o711))
	must(t, os.Rename(filepath.Join(device, "sub"), filepath.Join(device, wholeFilled, "sub")))
	write(t, filepath.Join(device, wholeFilled, "a"), "image")
	write(t, filepath.Join(device, "a"), "user")
	must(t, d.Unmount(ctx, "vol"))
	must(t, d.Mount(ctx, "vol", opts))
	check("after a crash in the move")
	if b, _ := os.ReadFile(filepath.Join(device, "a")); string(b) != "user" {
		t.Errorf("a user's file was overwritten: %q", b)
	}

	// A link of that name, made by a container, is not followed.
	host := t.TempDir()
	write(t, filepath.Join(host, "secret"), "x")
	must(t, os.Symlink(host, filepath.Join(device, wholeFilled)))
	must(t, d.Populate(ctx, "vol", root, "/data"))
	if _, err := os.Stat(filepath.Join(host, "secret")); err != nil {
		t.Error("a file was moved out of a folder of the host:", err)
	}
}

func TestPopulateReadOnly(t *testing.T) {
	d, err := New(t.TempDir())
	must(t, err)
	img := t.TempDir()
	write(t, filepath.Join(img, "data/a"), "1")
	made(t, d, "vol")
	must(t, d.Mount(t.Context(), "vol", map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "ro"}))
	defer func() { must(t, d.Unmount(t.Context(), "vol")) }()
	must(t, d.Populate(t.Context(), "vol", spec.Rootfs{Lower: []string{img}}, "/data"))
}
