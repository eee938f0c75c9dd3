package lazy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/lazyproto"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// made is an eStargz blob.
type made struct {
	bytes []byte
	info  lazyproto.Layer
}

// estargzOf makes a blob of a layer.
func estargzOf(t testing.TB, l imagemaker.Layer, opts ...estargz.Option) made {
	t.Helper()
	tar, err := l.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b, err := estargz.Build(io.NewSectionReader(bytes.NewReader(tar), 0, int64(len(tar))), opts...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(b)
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	return made{all, lazyproto.Layer{Digest: digest.FromBytes(all), Size: int64(len(all)), DiffID: b.DiffID(), TOC: b.TOCDigest(), Lowest: true}}
}

// unpacked unpacks a blob as the layer store does.
func (m made) unpacked(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "unpacked")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := tarfs.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	z, err := gzip.NewReader(bytes.NewReader(m.bytes))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tarfs.Extract(t.Context(), root, z, tarfs.ExtractOptions{Whiteouts: tarfs.Overlay}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// source gives a blob's bytes, and notes which.
type source struct {
	b []byte

	mu     sync.Mutex
	sent   int64
	asked  int
	broken func(asked int, from, to int64) ([]byte, error) // nil: as it should be
	whole  bool                                            // no parts are to be had
	gate   chan struct{}                                   // if not nil, each request takes one
}

func (s *source) Span(ctx context.Context, from, to int64) (io.ReadCloser, error) {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.whole {
		return nil, fmt.Errorf("no parts: %w", errdefs.ErrNotImplemented)
	}
	b := s.b[from:to]
	if s.broken != nil {
		got, err := s.broken(s.asked, from, to)
		if err != nil {
			return nil, err
		}
		if got != nil {
			b = got
		}
	}
	s.sent += int64(len(b))
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (s *source) All(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.b)), nil
}

func (s *source) fetched() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// served is a layer that is mounted.
type served struct {
	*layer
	dir    string
	events chan lazyproto.Answer
	ended  chan struct{}
}

// opened prepares a layer and its tree, without a mount.
func opened(t testing.TB, m made, src Source, cache string) (*layer, chunk, error) {
	t.Helper()
	file, note, err := openCache(cache)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan lazyproto.Answer, 100)
	l, err := prepare(m.info, lazyproto.Place{Cache: cache, Mount: filepath.Join(cache, "mount")}, newShared(func(a lazyproto.Answer) { events <- a }), src, file, note)
	if err != nil {
		return nil, chunk{}, err
	}
	table, err := l.load(t.Context())
	return l, table, err
}

// serve mounts a layer. Its fill begins only if asked for.
func serve(t testing.TB, m made, src Source) *served {
	t.Helper()
	l, table, err := opened(t, m, src, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &served{layer: l, dir: l.place.Mount, events: make(chan lazyproto.Answer, 100), ended: make(chan struct{})}
	l.tell = func(a lazyproto.Answer) { s.events <- a }
	if err := l.begin(table, nil, nil); err != nil {
		t.Fatal(err)
	}
	go func() {
		l.session.serve()
		close(s.ended)
	}()
	neverPolled(t, s.dir)
	t.Cleanup(func() {
		l.cancel()
		if err := l.release(); err != nil {
			t.Error(err)
		}
		<-s.ended
	})
	return s
}

// neverPolled lets the kernel learn that files here have no poll: Go's runtime asks for it when it opens a file, and holds up
// the whole process until the answer, which would have to come from this very process.
func neverPolled(t testing.TB, dir string) {
	t.Helper()
	fd, err := unix.Open(filepath.Join(dir, estargz.TOCTarName), unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		t.Fatal(err)
	}
}

// listing is a tree in words: everything that a program could see of it, besides what no archive says.
func listing(t testing.TB, root string) []string {
	t.Helper()
	var out []string
	inodes := map[uint64]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		name := strings.TrimPrefix(p, root)
		line := fmt.Sprintf("%s %o %d:%d", name, st.Mode, st.Uid, st.Gid)
		dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		white := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
		if !white && !strings.HasPrefix(name, "/implied") {
			line += fmt.Sprintf(" mtime %d", st.Mtim.Sec)
		}
		if d.Type() != fs.FileMode(0)&fs.ModeType && d.Type() != modeOf(st.Mode) {
			t.Errorf("%s: the folder says %v, stat %v", name, d.Type(), modeOf(st.Mode))
		}
		line += fmt.Sprintf(" links %d rdev %d", st.Nlink, st.Rdev)
		if !dir {
			line += fmt.Sprintf(" size %d", st.Size)
			if first := inodes[st.Ino]; first != "" {
				line += " same as " + first
			}
			inodes[st.Ino] = name
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			line += fmt.Sprintf(" to %q, %v", to, err)
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += " " + digest.FromBytes(b).String()
		}
		out = append(out, line+xattrsOf(t, p))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func modeOf(m uint32) fs.FileMode {
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFCHR:
		return fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		return fs.ModeDevice
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	}
	return 0
}

func xattrsOf(t testing.TB, p string) (out string) {
	t.Helper()
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(p, list)
	if err != nil {
		t.Fatalf("%s: listing attributes: %v", p, err)
	}
	names := strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if name == "" {
			continue
		}
		v := make([]byte, 4096)
		n, err := unix.Lgetxattr(p, name, v)
		if err != nil {
			t.Fatalf("%s: attribute %s: %v", p, name, err)
		}
		out += fmt.Sprintf(" %s=%x", name, v[:n])
	}
	return out
}
