package local

import (
	"bytes"
	"testing"

	"github.com/gantry-engine/gantry/internal/spec"
)

func FuzzDecode(f *testing.F) {
	f.Add(Append(nil, Record{Stream: spec.Stdout, Time: 5, Line: []byte("x\n")}))
	f.Add([]byte{0, 0, 0, 10})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = LastSize(b)
		var r Record
		n, err := Decode(b, &r)
		if err != nil || n == 0 {
			return
		}
		if again := Append(nil, r); !bytes.Equal(again, b[:n]) {
			t.Errorf("%x became %x", b[:n], again)
		}
		if m, err := LastSize(b[:n]); err != nil || m != n {
			t.Errorf("from the end it has %d bytes, %v, not %d", m, err, n)
		}
	})
}
