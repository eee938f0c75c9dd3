package recall

import (
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

// Gzip is how layers are compressed here.
var Gzip = Codec{Name: "klauspost-gzip", Level: gzip.DefaultCompression}

func (c *Codec) String() string { return fmt.Sprintf("%s, level %d", c.Name, c.Level) }

// Compress writes r's bytes, compressed.
func (c *Codec) Compress(w io.Writer, r io.Reader) error {
	z, err := c.writer(w)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{z}, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		return err
	}
	return z.Close()
}

func (c *Codec) writer(w io.Writer) (io.WriteCloser, error) {
	if c.Name != Gzip.Name {
		return nil, fmt.Errorf("the encoder %q is not known", c.Name)
	}
	return gzip.NewWriterLevel(w, c.Level)
}
