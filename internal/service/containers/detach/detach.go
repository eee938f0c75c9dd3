// Package detach finds the keys by which a user leaves a container that goes on
// running, in what the user's terminal sends.
package detach

import (
	"errors"
	"io"
	"strings"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// defaultKeys is ctrl-p,ctrl-q.
var defaultKeys = []byte{16, 17}

// Parse reads "ctrl-a,x"; empty is the default.
func Parse(s string) ([]byte, error) {
	if s == "" {
		return defaultKeys, nil
	}
	var out []byte
	for _, k := range strings.Split(s, ",") {
		if len(k) == 1 {
			out = append(out, k[0])
			continue
		}
		c, ok := strings.CutPrefix(strings.ToLower(k), "ctrl-")
		switch {
		case ok && len(c) == 1 && c[0] >= 'a' && c[0] <= 'z':
			out = append(out, c[0]-'a'+1)
		case ok && len(c) == 1 && strings.Contains("@[\\]^_", c):
			out = append(out, c[0]&0x1f)
		default:
			return nil, classed.Invalid("Invalid detach keys (%s) provided", s)
		}
	}
	return out, nil
}

// ErrDetached says that the detach keys were typed: the process goes on.
var ErrDetached = errors.New("detached")

// Reader passes a terminal's input on until the detach keys come, which end
// it with ErrDetached. Keys that turn out to be no detach sequence are passed on.
type Reader struct {
	r       io.Reader
	keys    []byte
	matched int    // how much of keys was typed
	pending []byte // read but not yet passed on
	err     error
}

// NewReader reads from r up to the keys, which must not be empty.
func NewReader(r io.Reader, keys []byte) *Reader { return &Reader{r: r, keys: keys} }

func (d *Reader) Read(p []byte) (int, error) {
	for len(d.pending) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		buf := make([]byte, max(len(p), 1))
		n, err := d.r.Read(buf)
		d.err = err
		d.feed(buf[:n])
	}
	n := copy(p, d.pending)
	d.pending = d.pending[n:]
	return n, nil
}

func (d *Reader) feed(b []byte) {
	for _, c := range b {
		if c == d.keys[d.matched] {
			if d.matched++; d.matched == len(d.keys) {
				d.err = ErrDetached
				return
			}
			continue
		}
		d.pending = append(d.pending, d.keys[:d.matched]...)
		d.matched = 0
		if c == d.keys[0] {
			d.matched = 1
			if len(d.keys) == 1 {
				d.err = ErrDetached
				return
			}
			continue
		}
		d.pending = append(d.pending, c)
	}
}
