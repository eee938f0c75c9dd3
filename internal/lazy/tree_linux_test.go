package lazy

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/google/go-cmp/cmp"

	. "github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// noise is content that does not compress.
func noise(n int) string {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	_, _ = src.Read(b)
	return string(b)
}

// odd has everything that a layer may have.
func odd() Layer {
	long := strings.Repeat("n", 255)
	deep := "deep"
	l := Layer{
		Dir("/").Mode(0o711).Owner(1, 2),
		Dir("etc").Mode(0o750).Owner(7, 8).Time(time.Unix(1000, 0)), File("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
		File("etc/shadow", "secret").Mode(0o400).Owner(0, 42),
		Dir("bin"), File("bin/su", noise(5000)).Mode(0o4755), File("bin/sg", "g").Mode(0o2755), Dir("tmp").Mode(0o1777),
		File("bin/ping", "p").Mode(0o755).Xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		File("big", noise(1<<20)+strings.Repeat("\x00", 1<<20)+noise(12345)), File("holes", strings.Repeat("\x00", 300_000)), File("empty", ""),
		Link("bin/ping2", "bin/ping"), Link("big2", "big"), Link("bin/big3", "big"),
		Symlink("link", "/etc/passwd"), Symlink("dangling", "no/where"), Link("link2", "link"), Symlink("loop", "loop"),
		Dir("dev"), Device("dev/null", 'c', 1, 3), Device("dev/sda", 'b', 8, 0), Device("dev/large", 'c', 300, 70000),
		File("user", "u").Xattr("user.comment", "hello").Xattr("user.other", ""), Dir("udir").Xattr("user.d", "1"), File("tx", "t").Xattr("trusted.own", "yes"),
		File("evil", "e").Xattr("trusted.overlay.redirect", "/etc").Xattr("user.overlay.opaque", "y"),
		Whiteout("gone"), Dir("opaque"), Opaque("opaque"), File("opaque/new", "n"), Dir("renewed"), Whiteout("renewed"), Whiteout("etc/old"), File("renewed/f", "f"),
		File("implied/by/this", "i"), File(long, "long"), File("ünï cödé\n", "x"), File("future", "f").Time(time.Unix(4_000_000_000, 0)), File("old", "o").Time(time.Unix(-86400, 0)),
		Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o622, ModTime: Epoch}},
	}
	l = append(l, Dir(deep))
	for i := range 12 {
		deep += "/d" + strings.Repeat("x", i)
		l = append(l, Dir(deep), File(deep+"/f", deep))
	}
	l = append(l, Dir("many"))
	for i := range 500 {
		l = append(l, File("many/"+strings.Repeat("m", i%50)+string(rune('a'+i%26))+strings.Repeat("z", i/26), "c"))
	}
	return l
}

// A layer that is not here looks exactly as it will when it is here and unpacked.
func TestTreeIsWhatUnpackingMakes(t *testing.T) {
	for name, opts := range map[string][]estargz.Option{
		"chunks":      {estargz.WithChunkSize(64 << 10)},
		"one chunk":   {estargz.WithChunkSize(8 << 20)},
		"packed":      {estargz.WithMinChunkSize(100 << 10), estargz.WithChunkSize(50 << 10)},
		"prioritized": {estargz.WithPrioritizedFiles([]string{"bin/ping", "big"}), estargz.WithChunkSize(100 << 10)},
	} {
		t.Run(name, func(t *testing.T) {
			m := estargzOf(t, odd(), opts...)
			s := serve(t, m, &source{b: m.bytes})
			want, got := listing(t, m.unpacked(t)), listing(t, s.dir)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("unpacked (-) and served (+) differ:\n%s", diff)
			}
			if len(got) < 540 {
				t.Errorf("only %d files were compared", len(got))
			}
			if name == "prioritized" && s.tree.first == 0 {
				t.Error("the files to be fetched first are not known")
			}
		})
	}
}

// What cannot be served as it would be unpacked is not served: it is pulled the ordinary way.
func TestUnfitLayers(t *testing.T) {
	for name, l := range map[string]Layer{
		"a folder behind a link":           {Dir("usr"), Symlink("lib", "usr"), File("lib/x", "x")},
		"a hard link to another layer":     {Link("a", "b")},
		"a file below a file":              {File("a", "a"), File("a/b", "b")},
		"folders of the layers below":      {File("a/b", "b")},
		"an empty symbolic link's target ": {Entry{Header: Symlink("a", "").Header}},
	} {
		t.Run(name, func(t *testing.T) {
			m := estargzOf(t, l)
			m.info.Lowest = false
			_, _, err := opened(t, m, &source{b: m.bytes}, t.TempDir())
			if !errors.Is(err, ErrUnfit) {
				t.Errorf("it would be served: %v", err)
			}
		})
	}
	t.Run("no eStargz", func(t *testing.T) {
		m := made{bytes: []byte(noise(5000))}
		m.info = estargzOf(t, Layer{File("a", "a")}).info
		m.info.Size = int64(len(m.bytes))
		if _, _, err := opened(t, m, &source{b: m.bytes}, t.TempDir()); !errors.Is(err, ErrUnfit) {
			t.Errorf("it would be served: %v", err)
		}
	})
}

// A table of contents that is not the manifest's is refused, and one that lies about places or sizes.
func TestTableIsNotBelieved(t *testing.T) {
	m := estargzOf(t, Layer{File("a", noise(1000))})
	m.info.TOC = "sha256:" + m.info.TOC[7:8] + "0" + m.info.TOC[9:]
	if _, _, err := opened(t, m, &source{b: m.bytes}, t.TempDir()); err == nil || !strings.Contains(err.Error(), "manifest says") {
		t.Errorf("another table of contents: %v", err)
	}
	good := `{"name":"a","type":"reg","size":10,"offset":5,"chunkDigest":"` + string(m.info.Digest) + `"}`
	for name, c := range map[string]struct {
		toc string
		ok  bool
	}{
		"good":               {good, true},
		"before the layer":   {strings.Replace(good, `"offset":5`, `"offset":-5`, 1), false},
		"behind the layer":   {strings.Replace(good, `"offset":5`, `"offset":5000`, 1), false},
		"negative size":      {strings.Replace(good, `"size":10`, `"size":-10`, 1), false},
		"huge chunk":         {strings.Replace(good, `"size":10`, `"size":99999999999`, 1), false},
		"no digest":          {strings.Replace(good, "sha256", "sha1", 1), false},
		"half a file":        {strings.Replace(good, `"size":10`, `"size":10,"chunkSize":5`, 1), false},
		"gap":                {strings.Replace(good, `"size":10`, `"size":10,"chunkSize":5`, 1) + strings.Replace(`,`+good, `"reg","size":10`, `"chunk","chunkOffset":7,"chunkSize":3`, 1), false},
		"overflow":           {strings.Replace(good, `"size":10`, `"size":10,"chunkOffset":9223372036854775807,"chunkSize":5`, 1), false},
		"chunk of nothing":   {strings.Replace(good, "reg", "chunk", 1), false},
		"climbs out":         {strings.Replace(good, `"a"`, `"../../etc/passwd"`, 1), false},
		"owner":              {strings.Replace(good, `"size"`, `"uid":-1,"size"`, 1), false},
		"unknown type":       {strings.Replace(good, "reg", "door", 1), false},
		"time":               {strings.Replace(good, `"size"`, `"modtime":"yesterday","size"`, 1), false},
		"root is a file":     {strings.Replace(good, `"a"`, `"/"`, 1), false},
		"name of a kilobyte": {strings.Replace(good, `"a"`, `"`+strings.Repeat("a", 1000)+`"`, 1), false},
		"inner":              {strings.Replace(good, `"size"`, `"innerOffset":-1,"size"`, 1), false},
	} {
		toc := &estargz.JTOC{}
		err := decodeTable([]byte(`{"version":1,"entries":[`+c.toc+`]}`), toc)
		if err == nil {
			_, err = growTree(toc, 1000, 100)
		}
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{`[]`, `{"version":2,"entries":[]}`, `{"version":1,"entries":{}}`, `{"version":1,"entries":[{}`, `x`} {
		if err := decodeTable([]byte(bad), &estargz.JTOC{}); err == nil {
			t.Errorf("%s is a table of contents", bad)
		}
	}
}

// Whatever a table of contents says, it makes a tree or an error, no panic and no endless work.
func FuzzTable(f *testing.F) {
	m := estargzOf(f, odd()[:20])
	at, err := tocOffset(m.bytes[len(m.bytes)-estargz.FooterSize:], int64(len(m.bytes)))
	if err != nil {
		f.Fatal(err)
	}
	toc, _, err := readTable(bytes.NewReader(m.bytes[at:]), m.info.TOC)
	if err != nil {
		f.Fatal(err)
	}
	seed, err := json.Marshal(toc)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"version":1,"entries":[{"name":"a","type":"reg","size":5,"offset":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		toc := &estargz.JTOC{}
		if decodeTable(b, toc) != nil {
			return
		}
		tr, err := growTree(toc, 1<<20, 100)
		if err != nil {
			return
		}
		for i := range tr.nodes {
			for _, c := range tr.nodes[i].children {
				if tr.node(c) == nil {
					t.Fatalf("a name leads to the node %d of %d", c, len(tr.nodes))
				}
			}
			for _, c := range tr.nodes[i].chunks {
				if c.start < 0 || c.end > 1<<20 || c.start >= c.end || c.size > maxChunk {
					t.Fatalf("a chunk %+v", c)
				}
			}
		}
	})
}

// A file is read as any other: from anywhere, in any piece.
func TestReadsAnywhere(t *testing.T) {
	data := noise(3 << 20)
	m := estargzOf(t, Layer{File("f", data)}, estargz.WithChunkSize(100_000))
	s := serve(t, m, &source{b: m.bytes})
	f, err := os.Open(filepath.Join(s.dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 200 {
		off, n := rand.IntN(len(data)), rand.IntN(300_000)
		p := make([]byte, n)
		k, err := f.ReadAt(p, int64(off))
		want := data[off:min(off+n, len(data))]
		if string(p[:k]) != want || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%d bytes at %d: %d came, %v", n, off, k, err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "new"), nil, 0o600); err == nil {
		t.Error("a layer can be written to")
	}
	if _, err := os.Stat(filepath.Join(s.dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}
