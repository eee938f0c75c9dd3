package disk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func put(t *testing.T, p string, size int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The parts add up to what du says, whatever lies about.
func TestPartsAddUp(t *testing.T) {
	root := t.TempDir()
	for p, n := range map[string]int{
		"content/blobs/sha256/aa": 700_000, "content/blobs/sha256/bb": 10, "content/incoming/boot/cc": 300_000, "content/meta.db": 65536,
		"layers/layers/dd/fs/bin/sh": 2 << 20, "layers/layers/dd/meta": 20, "layers/containers/ee/upper/x": 5000, "layers/chains/ff": 90,
		"layers/volatile/boot/gg/upper/y": 6000, "volumes/vol/_data/file": 1 << 20, "containers/ee/ee-json.log": 4097, "store.db": 30000, "strange/thing": 123456, "stray": 1,
	} {
		put(t, filepath.Join(root, p), n)
	}
	if err := os.Link(filepath.Join(root, "volumes/vol/_data/file"), filepath.Join(root, "volumes/vol/_data/again")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, "volumes/sparse/_data/hole"), 0)
	if err := os.Truncate(filepath.Join(root, "volumes/sparse/_data/hole"), 1<<33); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("sync", "-f", root).Run(); err != nil {
		t.Fatal(err)
	}
	u, err := Ledger{Root: root}.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("du", "-s", "--block-size=1", root).Output()
	if err != nil {
		t.Fatal(err)
	}
	want, _ := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if u.Total != want {
		t.Errorf("the parts are %d bytes, du says %d: %+v", u.Total, want, u.Parts)
	}
	by := map[string]int{}
	for _, p := range u.Parts {
		by[p.What] = p.Count
	}
	if by["volumes"] != 2 || by["layers of images"] != 1 || by["other"] != 2 || by["writable layers of auto-remove containers"] != 1 || by["downloads that are not whole yet"] != 1 {
		t.Errorf("counted: %v", by)
	}
	if u.Free <= 0 {
		t.Errorf("free: %d", u.Free)
	}
}
