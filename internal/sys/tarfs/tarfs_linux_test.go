package tarfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		data := ""
		if h.Typeflag == tar.TypeReg {
			data, h.Linkname = h.Linkname, ""
			h.Size = int64(len(data))
		}
		must(t, tw.WriteHeader(&h))
		_, err := tw.Write([]byte(data))
		must(t, err)
	}
	must(t, tw.Close())
	return b.Bytes()
}

func file(name, data string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: data, Mode: 0o644}
}

func link(flag byte, name, target string) tar.Header {
	return tar.Header{Typeflag: flag, Name: name, Linkname: target, Mode: 0o777}
}

// inside makes a tree with a neighbour that no archive may touch.
func inside(t testing.TB) (root *os.File, tree, outside string) {
	t.Helper()
	dir := t.TempDir()
	tree, outside = filepath.Join(dir, "tree"), filepath.Join(dir, "outside")
	must(t, os.Mkdir(tree, 0o755))
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	root, err := OpenRoot(tree)
	must(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return root, tree, outside
}

func untouched(t testing.TB, outside string) {
	t.Helper()
	entries, err := os.ReadDir(outside)
	must(t, err)
	b, err := os.ReadFile(filepath.Join(outside, "secret"))
	if err != nil || len(entries) != 1 || string(b) != "secret" {
		t.Errorf("the neighbour was touched: %v %q %v", entries, b, err)
	}
	if st, err := os.Stat(filepath.Join(outside, "secret")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the neighbour's mode: %v %v", st.Mode(), err)
	}
}

func TestHostileArchivesStayInside(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"climbing":            {file("../outside/x", "x")},
		"climbing later":      {file("a/../../outside/x", "x")},
		"absolute":            {file("/etc/x", "x")},
		"through a link":      {link(tar.TypeSymlink, "l", "../outside"), file("l/x", "x")},
		"through an absolute": {link(tar.TypeSymlink, "l", "/OUTSIDE"), file("l/x", "x")},
		"over a link":         {link(tar.TypeSymlink, "l", "../outside/secret"), file("l", "overwritten")},
		"hard link out":       {link(tar.TypeLink, "h", "../outside/secret"), file("h", "overwritten")},
		"hard link by link":   {link(tar.TypeSymlink, "l", "../outside"), link(tar.TypeLink, "h", "l/secret"), file("h", "overwritten")},
		"hard link to link":   {link(tar.TypeSymlink, "l", "../outside/secret"), link(tar.TypeLink, "h", "l"), {Typeflag: tar.TypeReg, Name: "h", Mode: 0o777}},
		"whiteout":            {link(tar.TypeSymlink, "l", "../outside"), file("l/.wh.secret", "")},
		"whiteout dots":       {file("d/.wh...", "")},
		"opaque":              {link(tar.TypeSymlink, "l", "../outside"), file("l/.wh..wh..opq", "")},
		"folder over link":    {link(tar.TypeSymlink, "l", "../outside"), {Typeflag: tar.TypeDir, Name: "l", Mode: 0o777}},
		"proc":                {link(tar.TypeSymlink, "l", "/proc/self/root"), file("l/x", "x")},
		"null byte":           {link(tar.TypeSymlink, "n", "a")},
	} {
		for _, w := range []Whiteouts{Literal, Overlay, Apply} {
			root, _, outside := inside(t)
			for i := range headers {
				headers[i].Linkname = strings.ReplaceAll(headers[i].Linkname, "/OUTSIDE", outside)
			}
			_, err := Extract(t.Context(), root, bytes.NewReader(archive(t, headers...)), ExtractOptions{Whiteouts: w})
			if strings.HasPrefix(name, "climbing") && !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", name, err)
			}
			untouched(t, outside)
			if _, err := os.Lstat("/etc/x"); err == nil {
				t.Fatalf("%s: the host's /etc was written to", name)
			}
		}
	}
}

func TestExtractReportsTruncation(t *testing.T) {
	whole := archive(t, file("a", strings.Repeat("x", 5000)))
	for _, n := range []int{100, 600, 1024, 4096} {
		root, _, _ := inside(t)
		_, err := Extract(t.Context(), root, bytes.NewReader(whole[:n]), ExtractOptions{})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "truncated") {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	root, _, _ := inside(t)
	_, err := Extract(t.Context(), root, bytes.NewReader(bytes.Repeat([]byte("x"), 1024)), ExtractOptions{})
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("garbage: %v", err)
	}
}

func TestOwnersOutOfRange(t *testing.T) {
	root, _, _ := inside(t)
	_, err := Extract(t.Context(), root, bytes.NewReader(archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Uid: 1<<32 - 1})), ExtractOptions{})
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("uid 2^32-1: %v", err)
	}
}

func TestPackAndExtractAgree(t *testing.T) {
	src, tree, _ := inside(t)
	must(t, os.MkdirAll(filepath.Join(tree, "d", "e"), 0o755))
	must(t, os.Chmod(filepath.Join(tree, "d"), 0o2751))
	must(t, os.WriteFile(filepath.Join(tree, "d", "f"), []byte("data"), 0o640))
	must(t, os.Link(filepath.Join(tree, "d", "f"), filepath.Join(tree, "d", "g")))
	must(t, os.Symlink("nowhere", filepath.Join(tree, "l")))
	must(t, os.WriteFile(filepath.Join(tree, strings.Repeat("long", 50)), nil, 0o600))
	first := packed(t, src)
	dst, _, _ := inside(t)
	_, err := Extract(t.Context(), dst, bytes.NewReader(first), ExtractOptions{})
	must(t, err)
	if second := packed(t, dst); !bytes.Equal(first, second) {
		t.Error("what was extracted packs to another archive")
	}
}

func packed(t *testing.T, root *os.File) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	must(t, Pack(t.Context(), int(root.Fd()), "", tw, PackOptions{}))
	must(t, tw.Close())
	return b.Bytes()
}

func FuzzExtract(f *testing.F) {
	f.Add(archive(f, file("a/b", "x"), link(tar.TypeSymlink, "l", "../outside"), link(tar.TypeLink, "h", "a/b")), byte(0))
	f.Add(archive(f, file("l/.wh.x", ""), file("d/.wh..wh..opq", ""), tar.Header{Typeflag: tar.TypeDir, Name: "d/"}), byte(1))
	f.Fuzz(func(t *testing.T, data []byte, w byte) {
		if len(data) > 1<<20 {
			return
		}
		root, _, outside := inside(t)
		_, err := Extract(t.Context(), root, bytes.NewReader(data), ExtractOptions{Whiteouts: Whiteouts(w % 3)})
		var perr *os.PathError
		_ = errors.As(err, &perr)
		untouched(t, outside)
	})
}
