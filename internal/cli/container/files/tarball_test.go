package files

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// An archive out of a container cannot reach beyond the destination, by names or by links.
func TestUnpackStaysInside(t *testing.T) {
	top := t.TempDir()
	if err := os.Mkdir(filepath.Join(top, "dst"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, headers := range [][]tar.Header{
		{{Name: "src/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "src/../../../evil", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1}},
		{{Name: "src/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "src/up", Typeflag: tar.TypeSymlink, Linkname: "../.."}, {Name: "src/up/evil", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1}},
		{{Name: "src/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "src/abs", Typeflag: tar.TypeSymlink, Linkname: top}, {Name: "src/abs/evil", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1}},
	} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, h := range headers {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				_, _ = w.Write([]byte("x"))
			}
		}
		w.Close()
		_ = unpack(&buf, filepath.Join(top, "dst", "src"), false, false)
		if _, err := os.Lstat(filepath.Join(top, "evil")); err == nil {
			t.Errorf("%v wrote outside", headers)
		}
		os.RemoveAll(filepath.Join(top, "dst", "src"))
	}
}

func TestPackAndUnpackAgree(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{"a": "1", "d/b": "22"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(src, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, path), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(src, "l")); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := pack(&buf, src, "x"); err != nil {
		t.Fatal(err)
	}
	if err := unpack(&buf, filepath.Join(dst, "y"), false, false); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dst, "y", "d", "b"))
	link, lerr := os.Readlink(filepath.Join(dst, "y", "l"))
	st, serr := os.Stat(filepath.Join(dst, "y", "a"))
	if err != nil || lerr != nil || serr != nil || string(b) != "22" || link != "a" || st.Mode().Perm() != 0o640 {
		t.Errorf("%q %v, %q %v, %v %v", b, err, link, lerr, st, serr)
	}
}
