package keeperproto

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the protocol's. Both sides say it in Hello; a keeper serves the
// versions from MinVersion on, so that a newer gantryd can talk to the keeper
// that an older one started, and upgrade it.
const (
	Version    = 1
	MinVersion = 1
)

// Bounds of what is accepted from the other side.
const (
	MaxPayload = 8 << 20
	MaxFDs     = 64
	maxString  = 1 << 20
	maxItems   = 1 << 16
	headerSize = 12
)

// ErrMalformed is wrapped by every error about bytes that are no message.
var ErrMalformed = errors.New("malformed keeper message")

// enc appends values to a buffer.
type enc struct{ b []byte }

func (e *enc) u8(v uint8)   { e.b = append(e.b, v) }
func (e *enc) u32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *enc) u64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *enc) i64(v int64)  { e.u64(uint64(v)) }
func (e *enc) i32(v int32)  { e.u32(uint32(v)) }

func (e *enc) bool(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

func (e *enc) str(v string) {
	e.u32(uint32(len(v)))
	e.b = append(e.b, v...)
}

func (e *enc) bytes(v []byte) {
	e.u32(uint32(len(v)))
	e.b = append(e.b, v...)
}

// dec takes values from a buffer; after the first error every value is zero.
type dec struct {
	b   []byte
	err error
}

func (d *dec) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.b) {
		d.err = fmt.Errorf("%w: %d bytes wanted, %d left", ErrMalformed, n, len(d.b))
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *dec) u8() uint8 {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *dec) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (d *dec) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *dec) i64() int64 { return int64(d.u64()) }
func (d *dec) i32() int32 { return int32(d.u32()) }
func (d *dec) bool() bool { return d.u8() != 0 }

func (d *dec) str() string {
	n := d.u32()
	if n > maxString && d.err == nil {
		d.err = fmt.Errorf("%w: a string of %d bytes", ErrMalformed, n)
	}
	return string(d.take(int(n)))
}

// bytes gives a copy, so that the receive buffer can be used again.
func (d *dec) bytes() []byte {
	n := d.u32()
	if n > MaxPayload && d.err == nil {
		d.err = fmt.Errorf("%w: %d bytes in one field", ErrMalformed, n)
	}
	v := d.take(int(n))
	if len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

func (d *dec) count() int {
	n := d.u32()
	if d.err == nil && (n > maxItems || int(n) > len(d.b)) {
		d.err = fmt.Errorf("%w: a list of %d", ErrMalformed, n)
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

// end reports the first error, or bytes left over.
func (d *dec) end() error {
	if d.err == nil && len(d.b) != 0 {
		d.err = fmt.Errorf("%w: %d bytes too many", ErrMalformed, len(d.b))
	}
	return d.err
}
