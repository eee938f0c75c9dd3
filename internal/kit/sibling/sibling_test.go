package sibling

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	defer func(p []string) { places = p }(places)
	dir := t.TempDir()
	write := func(path string, mode os.FileMode) string {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	self := write("usr/bin/self", 0o755)
	helper := write("usr/libexec/gantry/helper", 0o755)
	beside := write("usr/bin/beside", 0o755)
	write("usr/bin/helper", 0o644) // no executable
	away := write("away/self", 0o755)
	other := write("elsewhere/lost", 0o755)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	places = []string{filepath.Join(dir, "elsewhere")}
	for _, c := range []struct{ self, name, want string }{
		{self, "beside", beside}, {self, "helper", helper}, {link, "helper", helper},
		{away, "helper", "helper"}, {away, "lost", other}, {"", "lost", other}, {self, "none", "none"},
	} {
		if got := find(c.self, c.name); filepath.Clean(got) != filepath.Clean(c.want) {
			t.Errorf("%s beside %s: %s, want %s", c.name, c.self, got, c.want)
		}
	}
}
