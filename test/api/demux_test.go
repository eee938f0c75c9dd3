package api

import (
	"encoding/binary"
	"io"
	"testing"
)

type output struct{ stdout, stderr string }

// demux takes a framed stream apart until it ends: eight bytes of header, then the data.
func demux(t *testing.T, r io.Reader) (o output) {
	t.Helper()
	head := make([]byte, 8)
	for {
		if _, err := io.ReadFull(r, head); err == io.EOF {
			return o
		} else if err != nil {
			t.Fatalf("a frame's header: %v, after %+v", err, o)
		}
		data := make([]byte, binary.BigEndian.Uint32(head[4:]))
		if _, err := io.ReadFull(r, data); err != nil {
			t.Fatalf("a frame's %d bytes: %v", len(data), err)
		}
		switch head[0] {
		case 1:
			o.stdout += string(data)
		case 2:
			o.stderr += string(data)
		default:
			t.Fatalf("a frame of stream %d", head[0])
		}
	}
}
