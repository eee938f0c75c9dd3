package recall

import (
	"archive/tar"
	"bytes"
	gogzip "compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/go-digest"
)

// archive is a tar of some files of words and noise, the same for the same seed.
func archive(seed uint64, files int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range files {
		var data bytes.Buffer
		for data.Len() < 30_000 {
			if r.IntN(4) == 0 {
				for range 100 {
					data.WriteByte(byte(r.Uint32()))
				}
			}
			fmt.Fprintf(&data, "word%d ", r.IntN(3000))
		}
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("f%d", i), Mode: 0o644, Size: int64(data.Len())})
		_, _ = w.Write(data.Bytes())
	}
	_ = w.Close()
	return b.Bytes()
}

func compressedBy(t *testing.T, c Codec, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := c.Compress(&b, bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What an encoder makes of some bytes must not change with a new version of it: blobs are made again by it whose digest is
// known. If this fails after an update, the new version needs another name, and the old one has to stay.
func TestEncodersMakeTheSameBytesForever(t *testing.T) {
	raw := archive(1, 60)
	if got := digest.FromBytes(raw); got != "sha256:a1015f46c1198a330a147e75d2e3b9e1ef7a9b80864b0431ebf9d4c45098682a" {
		t.Fatalf("the input is another one: %s", got)
	}
	want := map[Codec]digest.Digest{
		{"go-gzip", 6}:        "sha256:61ac08d0d8eb3d0f9b4bfbf26f5b33065c022e1ed210a5e4af681be20ae2dbb1",
		{"pgzip", 6}:          "sha256:2c5338dd097eedd2bc6e3348360c80f2905c0874ea2f36a79e5189955ada43e9",
		{"pgzip", 5}:          "sha256:dcd5396c74cb23305570b0d62267be657dd1fb514113121631fea3354281184e",
		{"klauspost-gzip", 3}: "sha256:c7b6bb64b3783529a4f4f3e75e2f3a2d1dbf1b6491d021c7dd6a0b946cd3a4b3",
		{"klauspost-gzip", 5}: "sha256:9a0519ada4e659113a2f0c701eb37620990c7cda7373445d9a6308cbe40786de",
		{"klauspost-gzip", 6}: "sha256:d4558ff298c6bed207ccb5eb01f2dd52e2acc6dfdc7f3a4542efbbc5e467c4fd",
		{"go-gzip", 1}:        "sha256:aee8d179df4b6ce46c296bb5149bc33927b7ff8108a9f5a5908dd95fc6bf4f62",
		{"go-gzip", 9}:        "sha256:f6feefb0ee807a0ea44efef7b44e82de2d212721a0ef43c426268b77641b104a",
		{"klauspost-gzip", 1}: "sha256:e8f424e26d4e5c4cd52a4ea29309cfac4e698524b2cfa949d0b93829d73d24c4",
		{"klauspost-gzip", 9}: "sha256:71394d97427f2157b5625273e768176854800bca2453c85278e488ece92a6971",
		{"pgzip", 1}:          "sha256:9b2fde53fda9fb3b3710bcb66550ad3463ba955e0ae05eae4505bfd69e1046f3",
		{"pgzip", 9}:          "sha256:6b439237acbeb812f7ef0fa5d8a3bd0402fdd5e4778cb5d901e58a01adb34c95",
		{"go-gzip", 3}:        "sha256:5bba9f5a9076c2cc518e5bce681402016415cf8ad51a9d683c10499e07825a77",
		{"klauspost-gzip", 4}: "sha256:d68966d0d40fb5a62bc5077acc07b7e48859f680c9f58964b36584914047ce2d",
		{"klauspost-gzip", 7}: "sha256:497732fce834b674c485138dd0bede1c109424725d2eac170848e03fa423870c",
	}
	for _, c := range usual {
		got := digest.FromBytes(compressedBy(t, c, raw))
		if got != want[c] {
			t.Errorf("{%q, %d}: %q,", c.Name, c.Level, got)
		}
	}
}

func TestIdentify(t *testing.T) {
	for _, files := range []int{0, 1, 10, 160} {
		raw := archive(2, files)
		tried := usual
		if files > 100 { // one of each encoder: it is their blocks that tell them apart there
			tried = []Codec{{"go-gzip", 6}, {"pgzip", 6}, {"klauspost-gzip", 6}}
		}
		for _, c := range tried {
			blob := compressedBy(t, c, raw)
			if !ours(blob[:gzipHeader]) {
				t.Errorf("%v: its header is % x", &c, blob[:gzipHeader])
			}
			got, err := identify(blob[:min(len(blob), sample)], raw[:min(len(raw), sample)])
			if err != nil {
				t.Fatal(err)
			}
			if got == nil {
				t.Errorf("%d files, %v: not known", files, &c)
			} else if *got != c && !bytes.Equal(compressedBy(t, *got, raw), blob) {
				t.Errorf("%d files, %v: taken for %v", files, &c, got)
			}
		}
	}
}

func TestIdentifyKnowsWhatItDoesNotKnow(t *testing.T) {
	raw := archive(3, 50)
	named := func(w io.Writer) io.WriteCloser {
		z := gogzip.NewWriter(w)
		z.Name = "layer.tar"
		return z
	}
	stored := func(w io.Writer) io.WriteCloser {
		z, _ := gogzip.NewWriterLevel(w, gogzip.NoCompression)
		return z
	}
	for what, encoder := range map[string]func(io.Writer) io.WriteCloser{"a name in the header": named, "not compressed": stored} {
		var b bytes.Buffer
		z := encoder(&b)
		_, _ = z.Write(raw)
		_ = z.Close()
		if got, err := identify(b.Bytes(), raw); got != nil || err != nil {
			t.Errorf("%s: taken for %v, %v", what, got, err)
		}
	}
	for what, head := range map[string][]byte{
		"zlib's": {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3}, "with a name": {0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255}, "with a time": {0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 0, 255},
		"zstd's": {0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0, 255}, "short": {0x1f, 0x8b, 8},
	} {
		if ours(head) {
			t.Errorf("a header %s is taken for one of ours", what)
		}
	}
	other := compressedBy(t, Gzip, archive(4, 50))
	if got, err := identify(other, raw); got != nil || err != nil {
		t.Errorf("of another archive: taken for %v, %v", got, err)
	}
}
