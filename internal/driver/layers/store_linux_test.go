package layers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/overlayfs"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
	im "github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

func store(t testing.TB, dir, driver string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, Options{Driver: driver})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func layerOf(t testing.TB, l im.Layer) images.Layer {
	t.Helper()
	b, err := l.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return images.Layer{DiffID: digest.FromBytes(b), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}}
}

func unpack(t testing.TB, s *Store, ls ...im.Layer) spec.Image {
	t.Helper()
	var list []images.Layer
	var img spec.Image
	for _, l := range ls {
		list = append(list, layerOf(t, l))
		img.DiffIDs = append(img.DiffIDs, list[len(list)-1].DiffID)
	}
	release, err := s.Unpack(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return img
}

// open mounts a container's root as it would be in the container.
func open(t testing.TB, r spec.Rootfs) *os.File {
	t.Helper()
	var f *os.File
	var err error
	if r.Overlay() {
		f, err = overlayfs.Detached(overlayfs.Layers{Lower: r.Lower, Upper: r.Upper, Work: r.Work, Options: r.Options})
	} else {
		f, err = tarfs.OpenRoot(r.Path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func in(f *os.File, name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), name) }

func both(t *testing.T, f func(t *testing.T, driver string)) {
	for _, d := range []string{DriverOverlay, DriverCopy} {
		t.Run(d, func(t *testing.T) { f(t, d) })
	}
}

func TestUnpacksWhatLayersCanHold(t *testing.T) {
	both(t, func(t *testing.T, driver string) {
		s := store(t, t.TempDir(), driver)
		sparse := im.File("sparse", strings.Repeat("\x00", 8<<20)+"end")
		img := unpack(t, s,
			im.Layer{
				im.Dir("a"), im.File("a/gone", "x"), im.File("a/stays", "y"), im.Dir("full"), im.File("full/hidden", "z"), im.Dir("tmp").Mode(0o1777),
				im.File("suid", "s").Mode(0o4755).Owner(1000, 4_000_000_000), im.Device("null", 'c', 1, 3), im.Symlink("link", "../../../../etc/passwd"), sparse,
				im.File("first", "same").Xattr("user.color", "blue").Xattr("trusted.overlay.redirect", "/elsewhere"), im.Link("second", "first"),
				im.Dir("swap"), im.File("swap/old", "old"),
			},
			im.Layer{
				im.Dir("a"), im.Whiteout("/a/gone"), im.Dir("full"), im.Opaque("/full"), im.File("full/new", "n"),
				im.Whiteout("/swap"), im.Dir("swap"), im.File("swap/new", "new"),
			},
		)
		root, err := s.Create(t.Context(), "c", img, containers.LayerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f := open(t, root)
		for _, gone := range []string{"a/gone", "full/hidden", "swap/old", "a/.wh.gone", "full/.wh..wh..opq"} {
			if _, err := os.Lstat(in(f, gone)); !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", gone, err)
			}
		}
		for name, want := range map[string]string{"a/stays": "y", "full/new": "n", "swap/new": "new", "second": "same"} {
			if b, err := os.ReadFile(in(f, name)); err != nil || string(b) != want {
				t.Errorf("%s: %q %v", name, b, err)
			}
		}
		var st unix.Stat_t
		if err := unix.Lstat(in(f, "suid"), &st); err != nil || st.Mode&0o7777 != 0o4755 || st.Uid != 1000 || st.Gid != 4_000_000_000 {
			t.Errorf("suid: %o %d:%d %v", st.Mode, st.Uid, st.Gid, err)
		}
		if err := unix.Lstat(in(f, "null"), &st); err != nil || st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("null: %x %v", st.Rdev, err)
		}
		if err := unix.Lstat(in(f, "sparse"), &st); err != nil || st.Size != 8<<20+3 || st.Blocks*512 > 64<<10 {
			t.Errorf("sparse: size %d, %d blocks, %v", st.Size, st.Blocks, err)
		}
		if err := unix.Lstat(in(f, "tmp"), &st); err != nil || st.Mode&0o7777 != 0o1777 || st.Mtim.Sec != im.Epoch.Unix() {
			t.Errorf("tmp: %o %d %v", st.Mode, st.Mtim.Sec, err)
		}
		b := make([]byte, 10)
		if n, err := unix.Getxattr(in(f, "first"), "user.color", b); err != nil || string(b[:n]) != "blue" {
			t.Errorf("user.color: %q %v", b[:max(n, 0)], err)
		}
		if l, _ := os.Readlink(in(f, "link")); l != "../../../../etc/passwd" {
			t.Errorf("link: %q", l)
		}
		for _, d := range []string{"layers"} {
			entries, _ := filepath.Glob(filepath.Join(s.dir, d, "*", "fs", "first"))
			for _, e := range entries {
				if n, err := unix.Getxattr(e, "trusted.overlay.redirect", b); err == nil {
					t.Errorf("overlayfs's own attribute came in from an archive: %q", b[:n])
				}
			}
		}
	})
}

// Layers that omit parent folders, or link into layers below, are put on top of those.
func TestLayersThatNeedTheOnesBelow(t *testing.T) {
	both(t, func(t *testing.T, driver string) {
		s := store(t, t.TempDir(), driver)
		odd := im.Layer{im.File("tmp/x", "x"), im.Link("hard", "etc/shadow"), im.File("lib/y", "y")}
		img := unpack(t, s, im.Layer{
			im.Dir("tmp").Mode(0o1777).Owner(7, 8), im.Dir("etc"), im.File("etc/shadow", "secret").Mode(0o640).Owner(0, 42),
			im.Dir("usr"), im.Dir("usr/lib"), im.Symlink("lib", "usr/lib"),
		}, odd)
		root, err := s.Create(t.Context(), "c", img, containers.LayerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f := open(t, root)
		var st unix.Stat_t
		if err := unix.Stat(in(f, "tmp"), &st); err != nil || st.Mode&0o7777 != 0o1777 || st.Uid != 7 || st.Gid != 8 {
			t.Errorf("tmp: %o %d:%d %v", st.Mode, st.Uid, st.Gid, err)
		}
		if err := unix.Stat(in(f, "hard"), &st); err != nil || st.Mode&0o7777 != 0o640 || st.Gid != 42 {
			t.Errorf("hard: %o %d %v", st.Mode, st.Gid, err)
		}
		if b, err := os.ReadFile(in(f, "usr/lib/y")); err != nil || string(b) != "y" {
			t.Errorf("through the link: %q %v", b, err)
		}
		// On top of another layer it is another one; alone, the hard link has no target.
		other := unpack(t, s, im.Layer{im.Dir("tmp").Mode(0o700), im.Dir("etc"), im.File("etc/shadow", "other")}, odd)
		r2, err := s.Create(t.Context(), "c2", other, containers.LayerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(in(open(t, r2), "hard")); err != nil || string(b) != "other" {
			t.Errorf("on another base: %q %v", b, err)
		}
		if _, err := s.Unpack(t.Context(), []images.Layer{layerOf(t, odd)}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("alone: %v", err)
		}
	})
}

func TestManyLayers(t *testing.T) {
	s := store(t, t.TempDir(), DriverOverlay)
	var ls []im.Layer
	for i := range 120 {
		ls = append(ls, im.Layer{im.File(fmt.Sprintf("f%d", i), "x"), im.File("last", fmt.Sprint(i))})
	}
	img := unpack(t, s, ls...)
	root, err := s.Create(t.Context(), "c", img, containers.LayerOptions{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, root)
	if b, err := os.ReadFile(in(f, "last")); err != nil || string(b) != "119" {
		t.Errorf("last: %q %v", b, err)
	}
	if _, err := os.Stat(in(f, "f0")); err != nil {
		t.Error(err)
	}
}

func TestChangesUsageAndExport(t *testing.T) {
	both(t, func(t *testing.T, driver string) {
		s := store(t, t.TempDir(), driver)
		base := im.Layer{im.Dir("d"), im.File("d/edit", "old"), im.File("d/del", "x"), im.Dir("o"), im.File("o/in", "i"), im.File("keep", "k"), im.Dir("deep"), im.Dir("deep/er"), im.File("deep/er/f", "1")}
		img := unpack(t, s, base)
		root, err := s.Create(t.Context(), "c", img, containers.LayerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f := open(t, root)
		for _, do := range []func() error{
			func() error { return os.WriteFile(in(f, "d/edit"), []byte("new text"), 0o644) },
			func() error { return os.Remove(in(f, "d/del")) },
			func() error { return os.RemoveAll(in(f, "o")) },
			func() error { return os.Mkdir(in(f, "o"), 0o755) },
			func() error { return os.WriteFile(in(f, "o/out"), []byte("o"), 0o644) },
			func() error { return os.WriteFile(in(f, "deep/er/f"), []byte("22"), 0o644) },
			func() error { return syscall.Mkfifo(in(f, "pipe"), 0o600) },
		} {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		}
		changes, err := s.Changes(t.Context(), "c")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range changes {
			got = append(got, string("CAD"[c.Kind])+c.Path)
		}
		want := []string{"C/d", "D/d/del", "C/d/edit", "C/deep", "C/deep/er", "C/deep/er/f", "C/o", "D/o/in", "A/o/out", "A/pipe"}
		if driver == DriverCopy { // a folder whose own entry did not change is not told from an unchanged one
			want = slices.DeleteFunc(want, func(s string) bool { return s == "C/deep" || s == "C/deep/er" })
		}
		if !slices.Equal(got, want) {
			t.Errorf("changes %v\nwant    %v", got, want)
		}
		writable, image, err := s.Usage(t.Context(), "c")
		if err != nil || image != 3+1+1+1+1 || driver == DriverOverlay && writable != 8+1+2 {
			t.Errorf("usage %d, %d, %v", writable, image, err)
		}
		// What is exported, put on the image as a layer, gives the container's tree again.
		var diff bytes.Buffer
		if err := s.Export(t.Context(), "c", &diff); err != nil {
			t.Fatal(err)
		}
		again := images.Layer{DiffID: digest.FromBytes(diff.Bytes()), Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(diff.Bytes())), nil }}
		release, err := s.Unpack(t.Context(), []images.Layer{layerOf(t, base), again})
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		r2, err := s.Create(t.Context(), "c2", spec.Image{DiffIDs: append(img.DiffIDs, again.DiffID)}, containers.LayerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		g := open(t, r2)
		if a, b := tree(t, in(f, "")), tree(t, in(g, "")); a != b {
			t.Errorf("the committed tree differs:\n%s\nwant\n%s", b, a)
		}
	})
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir+".", func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err != nil {
			return err
		}
		text := ""
		if i.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text = string(data)
		}
		fmt.Fprintf(&b, "%s %s %s\n", strings.TrimPrefix(p, filepath.Clean(dir)), i.Mode(), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPinsCollectionAndRestart(t *testing.T) {
	both(t, func(t *testing.T, driver string) {
		dir := t.TempDir()
		s := store(t, dir, driver)
		shared, only := im.Layer{im.File("shared", "1")}, im.Layer{im.File("only", "22")}
		a := layerOf(t, shared)
		release, err := s.Unpack(t.Context(), []images.Layer{a, layerOf(t, only)})
		if err != nil {
			t.Fatal(err)
		}
		img := spec.Image{DiffIDs: []digest.Digest{a.DiffID, layerOf(t, only).DiffID}}
		if freed, err := s.Collect(t.Context(), nil); err != nil || freed != 0 {
			t.Errorf("collected what is held: %d %v", freed, err)
		}
		release()
		if _, err := s.Create(t.Context(), "durable", img, containers.LayerOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Create(t.Context(), "passing", img, containers.LayerOptions{Volatile: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Create(t.Context(), "durable", img, containers.LayerOptions{}); !errdefs.IsAlreadyExists(err) {
			t.Errorf("twice: %v", err)
		}
		if freed, err := s.Collect(t.Context(), nil); err != nil || freed != 0 {
			t.Errorf("collected what a container stands on: %d %v", freed, err)
		}
		// A crash: something half unpacked, a container half made.
		if err := os.MkdirAll(filepath.Join(dir, "tmp", "n-1", "fs"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "containers", "half", "upper"), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		s = store(t, dir, "")
		if s.Driver() != driver {
			t.Errorf("driver %s after a restart", s.Driver())
		}
		for _, id := range []string{"durable", "passing"} {
			if r, err := s.Rootfs(t.Context(), id); err != nil || r.Path == "" && len(r.Lower) != 3 {
				t.Errorf("%s after a restart: %+v %v", id, r, err)
			}
		}
		for _, gone := range []string{"tmp/n-1", "containers/half"} {
			if _, err := os.Stat(filepath.Join(dir, gone)); !os.IsNotExist(err) {
				t.Errorf("%s survived", gone)
			}
		}
		if err := s.SweepVolatile(t.Context(), func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Rootfs(t.Context(), "passing"); !errdefs.IsNotFound(err) {
			t.Errorf("a volatile layer that nobody claims: %v", err)
		}
		for range 2 {
			if err := s.Remove(t.Context(), "durable"); err != nil {
				t.Fatal(err)
			}
		}
		want := int64(3)
		if freed, err := s.Collect(t.Context(), nil); err != nil || freed != want {
			t.Errorf("freed %d, %v; want %d", freed, err, want)
		}
		if left, _ := os.ReadDir(filepath.Join(dir, "layers")); len(left) != 0 {
			t.Errorf("layers left: %v", left)
		}
		// After a reboot volatile layers are gone.
		if _, err := s.Create(t.Context(), "v", spec.Image{}, containers.LayerOptions{Volatile: true}); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		rebooted, err := Open(t.Context(), dir, Options{BootID: "another"})
		if err != nil {
			t.Fatal(err)
		}
		defer rebooted.Close()
		if _, err := rebooted.Rootfs(t.Context(), "v"); !errdefs.IsNotFound(err) {
			t.Errorf("a volatile layer survived a reboot: %v", err)
		}
	})
}

func TestVerification(t *testing.T) {
	s := store(t, t.TempDir(), DriverOverlay)
	l := layerOf(t, im.Layer{im.File("a", "b")})
	l.DiffID = digest.FromString("something else")
	_, err := s.Unpack(t.Context(), []images.Layer{l})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "another digest") {
		t.Errorf("wrong diff ID: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "layers")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Open(t.Context(), s.dir, Options{Driver: DriverCopy}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("another driver on the same store: %v", err)
	}
}

func BenchmarkCreate(b *testing.B) {
	s := store(b, b.TempDir(), DriverOverlay)
	img := unpack(b, s, im.Layer{im.File("a", "b")}, im.Layer{im.File("c", "d")})
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprint("c", i)
		if _, err := s.Create(b.Context(), id, img, containers.LayerOptions{Volatile: true}); err != nil {
			b.Fatal(err)
		}
		if err := s.Remove(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	var l im.Layer
	for i := range 1000 {
		l = append(l, im.File(fmt.Sprintf("d/f%d", i), strings.Repeat("x", 100_000)))
	}
	in := layerOf(b, l)
	b.SetBytes(1000 * 100_000)
	for b.Loop() {
		s := store(b, b.TempDir(), DriverOverlay)
		release, err := s.Unpack(b.Context(), []images.Layer{in})
		if err != nil {
			b.Fatal(err)
		}
		release()
	}
}
