package folders

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// remove is Away and all that follows it.
func remove(f *Folders, dir string) error {
	finish, err := f.Away(dir)
	if err != nil {
		return err
	}
	return finish()
}

func TestFoldersAreUsedAgain(t *testing.T) {
	dir := t.TempDir()
	f := New(filepath.Join(dir, ".spare"))
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := f.Make(path("a")); err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(path("a"))
	if err != nil || first.Mode().Perm() != Mode {
		t.Fatalf("%v, %v", first, err)
	}
	if err := errors.Join(os.MkdirAll(path("a/sub/sub"), 0o700), os.WriteFile(path("a/log"), []byte("secret"), 0o600), remove(f, path("a"))); err != nil {
		t.Fatal(err)
	}
	if there(path("a")) {
		t.Error("it is still there")
	}
	if err := f.Make(path("b")); err != nil {
		t.Fatal(err)
	}
	second, err := os.Stat(path("b"))
	if entries, _ := os.ReadDir(path("b")); err != nil || !os.SameFile(first, second) || len(entries) != 0 {
		t.Errorf("the next one is another folder, or has something in it: %v, %v", entries, err)
	}
	// One that somebody changed is nobody's next one, and not many are kept.
	if err := errors.Join(os.Chmod(path("b"), 0o777), remove(f, path("b"))); err != nil || len(f.spare) != 0 {
		t.Errorf("%v, kept %v", err, f.spare)
	}
	for _, name := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"} {
		if err := os.Mkdir(path(name), Mode); err != nil {
			t.Fatal(err)
		}
		if err := remove(f, path(name)); err != nil || there(path(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, _ := os.ReadDir(f.dir); len(left) != kept {
		t.Errorf("%d are kept", len(left))
	}
	if err := errors.Join(remove(f, path("missing")), f.Sweep()); err != nil || there(f.dir) {
		t.Errorf("swept: %v", err)
	}
	if err := f.Make(path("c")); err != nil || !there(path("c")) { // its spare ones are gone
		t.Errorf("without a spare one: %v", err)
	}
}
