package treecopy

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// odd fills a folder with everything that is not a plain file, and some that are.
func odd(t *testing.T, dir string) {
	t.Helper()
	at := func(n string) string { return filepath.Join(dir, n) }
	must(t, os.MkdirAll(at("sub/deep"), 0o755))
	must(t, os.WriteFile(at("plain"), []byte(strings.Repeat("data", 50_000)), 0o640))
	must(t, os.Chown(at("plain"), 1234, 5678))
	must(t, os.WriteFile(at("setuid"), []byte("x"), 0o755))
	must(t, os.Chown(at("setuid"), 1, 2))
	must(t, os.Chmod(at("setuid"), 0o755|os.ModeSetuid))
	must(t, os.Link(at("plain"), at("sub/other name")))
	must(t, os.Symlink("/etc/passwd", at("sub/link")))
	must(t, os.Lchown(at("sub/link"), 7, 8))
	must(t, unix.Mkfifo(at("pipe"), 0o622))
	must(t, unix.Mknod(at("device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	must(t, unix.Setxattr(at("plain"), "user.colour", []byte("blue"), 0))
	must(t, unix.Setxattr(at("sub"), "trusted.kind", []byte("folder"), 0))
	f, err := os.Create(at("sparse"))
	must(t, err)
	_, err = f.WriteAt([]byte("here"), 64<<20)
	must(t, err)
	must(t, f.Truncate(1<<30))
	must(t, f.Close())
	must(t, os.WriteFile(at("hole"), nil, 0o600))
	must(t, os.Truncate(at("hole"), 5<<20))
	must(t, os.Chmod(dir, 0o777|os.ModeSticky))
	for _, n := range []string{"plain", "pipe", "sub/deep", "sub", ""} {
		must(t, os.Chtimes(at(n), time.Unix(1_500_000_000, 5), time.Unix(1_600_000_000, 7)))
	}
}

func open(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestCopyKeepsEverything(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	odd(t, from)
	l, err := net.Listen("unix", filepath.Join(from, "socket"))
	must(t, err)
	defer l.Close()
	must(t, os.Chtimes(from, time.Unix(1, 0), time.Unix(1_600_000_000, 7)))
	var told int64
	st, err := Copy(t.Context(), open(t, from), open(t, to), Options{Progress: func(n int64) { told = n }})
	must(t, err)
	if len(st.Left) != 1 || st.Left[0] != "socket (a socket)" || st.Bytes != told || st.Bytes > 1<<20 || st.Entries != 10 {
		t.Errorf("%+v, told %d", st, told)
	}
	if d, err := Difference(t.Context(), open(t, from), open(t, to), Options{}); d != "" || err != nil {
		t.Errorf("they differ in %q, %v", d, err)
	}
	stat := func(n string) (st unix.Stat_t) {
		must(t, unix.Lstat(filepath.Join(to, n), &st))
		return st
	}
	if s := stat("sparse"); s.Size != 1<<30 || s.Blocks*512 > 1<<20 {
		t.Errorf("sparse: %d bytes in %d blocks", s.Size, s.Blocks)
	}
	if s := stat("hole"); s.Size != 5<<20 || s.Blocks != 0 {
		t.Errorf("hole: %d bytes in %d blocks", s.Size, s.Blocks)
	}
	if a, b := stat("plain"), stat("sub/other name"); a.Ino != b.Ino || a.Nlink != 2 || a.Mtim.Nsec != 7 {
		t.Errorf("plain and its other name: %+v, %+v", a, b)
	}
	if s := stat(""); s.Mode&0o7777 != 0o1777 || s.Mtim.Sec != 1_600_000_000 {
		t.Errorf("the folder itself: %o at %d", s.Mode, s.Mtim.Sec)
	}
	if s := stat("sub/link"); s.Uid != 7 || s.Gid != 8 {
		t.Errorf("the link's owner: %d:%d", s.Uid, s.Gid)
	}
	for path, want := range map[string][2]string{"plain": {"user.colour", "blue"}, "sub": {"trusted.kind", "folder"}} {
		b := make([]byte, 100)
		n, err := unix.Getxattr(filepath.Join(to, path), want[0], b)
		if err != nil || string(b[:n]) != want[1] {
			t.Errorf("%s: %s is %q, %v", path, want[0], b[:max(n, 0)], err)
		}
	}
	a, err := os.ReadFile(filepath.Join(to, "sub/other name"))
	if err != nil || string(a) != strings.Repeat("data", 50_000) {
		t.Errorf("the content: %d bytes, %v", len(a), err)
	}
	n, err := Size(t.Context(), open(t, to))
	if err != nil || n < 200_000 || n > 1<<20 {
		t.Errorf("size %d, %v", n, err)
	}
}

func TestDifference(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"new":       func(d string) error { return os.WriteFile(filepath.Join(d, "new"), nil, 0o600) },
		"plain":     func(d string) error { return os.Remove(filepath.Join(d, "plain")) },
		"hole":      func(d string) error { return os.Truncate(filepath.Join(d, "hole"), 3) },
		"pipe":      func(d string) error { return os.Chmod(filepath.Join(d, "pipe"), 0o640) },
		"setuid":    func(d string) error { return os.Chtimes(filepath.Join(d, "setuid"), time.Time{}, time.Unix(1, 0)) },
		"sub/":      func(d string) error { return os.WriteFile(filepath.Join(d, "sub/deep/new"), nil, 0o600) },
		"sub/link":  func(d string) error { return replaceLink(filepath.Join(d, "sub/link")) },
		"not skip":  func(d string) error { return os.WriteFile(filepath.Join(d, "not skip"), nil, 0o600) },
		"(nothing)": func(d string) error { return os.WriteFile(filepath.Join(d, "skip"), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			odd(t, from)
			_, err := Copy(t.Context(), open(t, from), open(t, to), Options{})
			must(t, err)
			must(t, change(to))
			d, err := Difference(t.Context(), open(t, from), open(t, to), Options{Skip: "skip"})
			must(t, err)
			if name == "(nothing)" && d != "" || name != "(nothing)" && !strings.HasPrefix(d, name) {
				t.Errorf("they differ in %q", d)
			}
		})
	}
}

func replaceLink(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := os.Symlink("/etc/passwx", path); err != nil {
		return err
	}
	if err := os.Lchown(path, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return os.Chtimes(filepath.Dir(path), time.Time{}, time.Unix(1_600_000_000, 7))
}

func TestCopyStops(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	odd(t, from)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Copy(ctx, open(t, from), open(t, to), Options{}); err != context.Canceled {
		t.Errorf("after the cancellation: %v", err)
	}
}

// Owners of a user namespace become those that they stand for; others stay.
func TestShift(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for name, owner := range map[string][2]int{"root": {100000, 200000}, "user": {101000, 201000}, "outside": {5, 265536}} {
		must(t, os.WriteFile(filepath.Join(from, name), nil, 0o600))
		must(t, os.Chown(filepath.Join(from, name), owner[0], owner[1]))
	}
	o := Options{Shift: Shift{UID: 100000, GID: 200000}}
	_, err := Copy(t.Context(), open(t, from), open(t, to), o)
	must(t, err)
	for name, want := range map[string][2]uint32{"root": {0, 0}, "user": {1000, 1000}, "outside": {5, 265536}} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(to, name), &st))
		if st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("%s belongs to %d:%d, want %v", name, st.Uid, st.Gid, want)
		}
	}
	if d, err := Difference(t.Context(), open(t, from), open(t, to), o); d != "" || err != nil {
		t.Errorf("they differ in %q, %v", d, err)
	}
	if d, err := Difference(t.Context(), open(t, from), open(t, to), Options{}); d == "" || err != nil {
		t.Errorf("without the shift they do not differ, %v", err)
	}
}
