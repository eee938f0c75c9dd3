package recall

import (
	"bufio"
	"bytes"
	gogzip "compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

// Codec is a way to compress that gives the same bytes for the same input.
type Codec struct {
	// Name is the encoder: "klauspost-gzip" is that of github.com/klauspost/compress.
	Name string `json:"name"`
	// Level is the encoder's own.
	Level int `json:"level"`
}

// Gzip is how layers are compressed here: of this encoder's levels the one from which on files get hardly smaller for the time it takes.
var Gzip = Codec{Name: "klauspost-gzip", Level: 3}

// encoders are the ways to compress that are known, by name. What an encoder makes of some bytes must never change, or blobs
// that went because of it do not come back: if a new version does otherwise, both need a name.
var encoders = map[string]func(w io.Writer, level int) (io.WriteCloser, error){
	"klauspost-gzip": func(w io.Writer, level int) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, level) },
	"go-gzip":        func(w io.Writer, level int) (io.WriteCloser, error) { return gogzip.NewWriterLevel(w, level) },
	"pgzip":          func(w io.Writer, level int) (io.WriteCloser, error) { return pgzip.NewWriterLevel(w, level) },
}

// usual are the codecs that others' blobs are tried with: Docker's, BuildKit's and containerd's, then those of podman, buildah and skopeo, then
// ours and those of builders that have levels.
var usual = []Codec{
	{"go-gzip", 6}, {"pgzip", 6}, {"pgzip", 5}, Gzip, {"klauspost-gzip", 5}, {"klauspost-gzip", 6}, {"go-gzip", 1}, {"go-gzip", 9},
	{"klauspost-gzip", 1}, {"klauspost-gzip", 9}, {"pgzip", 1}, {"pgzip", 9}, {"go-gzip", 3}, {"klauspost-gzip", 4}, {"klauspost-gzip", 7},
}

func (c *Codec) String() string { return fmt.Sprintf("%s, level %d", c.Name, c.Level) }

// Compress writes r's bytes, compressed.
func (c *Codec) Compress(w io.Writer, r io.Reader) error {
	b := bufio.NewWriterSize(w, 256<<10) // the encoder writes some hundred bytes at a time
	z, err := c.writer(b)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{z}, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return b.Flush()
}

func (c *Codec) writer(w io.Writer) (io.WriteCloser, error) {
	encoder := encoders[c.Name]
	if encoder == nil {
		return nil, fmt.Errorf("the encoder %q is not known", c.Name)
	}
	return encoder(w, c.Level)
}

// sample is how much of an archive, and of its blob, is looked at to find out by which codec it was compressed. Encoders that
// work on blocks of a megabyte begin like others.
const sample = 4 << 20

// gzipHeader is the length of a gzip member's header that has neither a name nor anything else that may be in it.
const gzipHeader = 10

// ours tells by its header whether a member may come from an encoder that is known: they write no flags, and "unknown" for the
// operating system, where zlib's write its name. The time is none, or what the zero [time.Time] becomes in 32 bits, which
// klauspost's and pgzip write.
func ours(head []byte) bool {
	if len(head) != gzipHeader || !bytes.Equal(head[:4], []byte{0x1f, 0x8b, 8, 0}) || head[9] != 255 {
		return false
	}
	mtime := binary.LittleEndian.Uint32(head[4:8])
	return mtime == 0 || mtime == uint32(time.Time{}.Unix()&0xffffffff)
}

// identify finds out which codec made a blob of an archive, by their beginnings (of up to sample bytes; shorter ones are all
// there is). It is a guess, which only compressing all of it proves. It is nil if none of the usual ones did.
func identify(blob, archive []byte) (*Codec, error) {
	for _, c := range usual {
		fits := true
		for _, n := range []int{128 << 10, len(archive)} { // most can be told from less
			if n > len(archive) || !fits {
				continue
			}
			var err error
			if fits, err = c.begins(blob, archive[:n], n == len(archive) && n < sample); err != nil {
				return nil, err
			}
		}
		if fits {
			return &c, nil
		}
	}
	return nil, nil //nolint:nilnil // see above
}

// begins tells whether a blob begins like the first bytes of its archive, compressed.
func (c *Codec) begins(blob, archive []byte, whole bool) (bool, error) {
	var made bytes.Buffer
	if err := c.Compress(&made, bytes.NewReader(archive)); err != nil {
		return false, err
	}
	if whole {
		return bytes.Equal(made.Bytes(), blob), nil
	}
	// The end is that of the bytes, not of the archive.
	n := min(made.Len()/2, len(blob))
	return bytes.Equal(made.Bytes()[:n], blob[:n]), nil
}
