package tarfs

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// layerOf is an archive with something of everything.
func layerOf(t *testing.T) []byte {
	t.Helper()
	at := time.Unix(1_700_000_000, 0)
	f := func(h tar.Header) tar.Header {
		h.ModTime = at
		return h
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(h tar.Header, data string) {
		h = f(h)
		h.Size = int64(len(data))
		must(t, w.WriteHeader(&h))
		_, err := w.Write([]byte(data))
		must(t, err)
	}
	put(tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755}, "")
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, "root:x:0:0\n")
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/capable", Mode: 0o4755, Uid: 5, Gid: 7, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "kept"}}, "x")
	put(tar.Header{Typeflag: tar.TypeLink, Name: "etc/again", Linkname: "etc/passwd"}, "")
	put(tar.Header{Typeflag: tar.TypeSymlink, Name: "etc/link", Linkname: "../nowhere"}, "")
	put(tar.Header{Typeflag: tar.TypeFifo, Name: "etc/fifo", Mode: 0o600}, "")
	put(tar.Header{Typeflag: tar.TypeChar, Name: "etc/null", Mode: 0o666, Devmajor: 1, Devminor: 3}, "")
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/.wh.gone", Mode: 0o600}, "")
	put(tar.Header{Typeflag: tar.TypeDir, Name: "srv/", Mode: 0o1777}, "")
	put(tar.Header{Typeflag: tar.TypeReg, Name: "srv/.wh..wh..opq", Mode: 0o600}, "")
	put(tar.Header{Typeflag: tar.TypeReg, Name: "implied/deep/file", Mode: 0o644}, strings.Repeat("data ", 100_000))
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/twice", Mode: 0o644}, "first")
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/twice", Mode: 0o600}, "second")
	must(t, w.Close())
	return b.Bytes()
}

// Each kind of damage is found and mended, and nothing else is touched.
func TestCompareAndMend(t *testing.T) {
	raw := layerOf(t)
	for name, c := range map[string]struct {
		damage func(dir string) error
		want   string // the differences, without what they say
	}{
		"none":    {func(string) error { return nil }, ""},
		"content": {func(d string) error { return flip(filepath.Join(d, "implied/deep/file"), 300_000) }, "/implied/deep/file"},
		"linked":  {func(d string) error { return flip(filepath.Join(d, "etc/passwd"), 1) }, "/etc/again /etc/passwd"},
		"size":    {func(d string) error { return os.Truncate(filepath.Join(d, "implied/deep/file"), 5) }, "/implied/deep/file"},
		"mode":    {func(d string) error { return os.Chmod(filepath.Join(d, "srv"), 0o755) }, "/srv"},
		"owner":   {func(d string) error { return os.Lchown(filepath.Join(d, "etc/link"), 1, 1) }, "/etc/link"},
		"attribute": {func(d string) error {
			return unix.Setxattr(filepath.Join(d, "etc/capable"), "user.note", []byte("lost"), 0)
		}, "/etc/capable"},
		"gone":          {func(d string) error { return os.Remove(filepath.Join(d, "etc/fifo")) }, "/etc/fifo"},
		"folder gone":   {func(d string) error { return os.RemoveAll(filepath.Join(d, "implied")) }, "/implied/deep/file"},
		"whiteout gone": {func(d string) error { return os.Remove(filepath.Join(d, "etc/gone")) }, "/etc/gone"},
		"not opaque":    {func(d string) error { return unix.Removexattr(filepath.Join(d, "srv"), "trusted.overlay.opaque") }, "/srv"},
		"link": {func(d string) error {
			return replace(filepath.Join(d, "etc/link"), func(p string) error { return os.Symlink("/", p) })
		}, "/etc/link"},
		"device": {func(d string) error {
			return replace(filepath.Join(d, "etc/null"), func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o666, 5) })
		}, "/etc/null"},
		"type": {func(d string) error {
			return replace(filepath.Join(d, "etc/capable"), func(p string) error { return os.MkdirAll(p+"/x", 0o755) })
		}, "/etc/capable /etc/capable/x"},
		"more": {func(d string) error { return os.WriteFile(filepath.Join(d, "etc/planted"), nil, 0o755) }, "/etc/planted"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			root, err := OpenRoot(dir)
			must(t, err)
			defer root.Close()
			if _, err := Extract(t.Context(), root, bytes.NewReader(raw), ExtractOptions{Whiteouts: Overlay}); err != nil {
				t.Fatal(err)
			}
			must(t, c.damage(dir))
			compare := func() (list []Difference, paths string) {
				t.Helper()
				list, err := Compare(t.Context(), root, bytes.NewReader(raw), CompareOptions{Alone: true})
				must(t, err)
				var all []string
				for _, d := range list {
					all = append(all, "/"+d.Path)
				}
				return list, strings.Join(all, " ")
			}
			list, got := compare()
			if got != c.want {
				t.Errorf("found %v, want %s", list, c.want)
			}
			before, err := os.Lstat(filepath.Join(dir, "etc/twice"))
			must(t, err)
			must(t, Mend(t.Context(), root, bytes.NewReader(raw), list, ExtractOptions{Whiteouts: Overlay}))
			if list, got := compare(); got != "" {
				t.Errorf("after mending: %v", list)
			}
			after, err := os.Lstat(filepath.Join(dir, "etc/twice"))
			must(t, err)
			if !os.SameFile(before, after) {
				t.Error("a sound file was written anew")
			}
		})
	}
}

func flip(p string, at int64) error {
	st, err := os.Stat(p)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte{'#'}, at); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Chtimes(p, st.ModTime(), st.ModTime())
}

func replace(p string, with func(string) error) error {
	if err := os.Remove(p); err != nil {
		return err
	}
	return with(p)
}
