package recall

import (
	"bufio"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
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
	if c.Name != Gzip.Name {
		return nil, fmt.Errorf("the encoder %q is not known", c.Name)
	}
	return gzip.NewWriterLevel(w, c.Level)
}
