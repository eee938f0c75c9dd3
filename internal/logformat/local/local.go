// Package local is the compact log format of the "local" driver: records of
//
//	[length 4][stream 1][0][time 8: Unix nanoseconds][text …][length 4]
//
// with big-endian numbers. The length counts stream to text; it stands on both
// sides, so that the file can be read from its end. The text has its line
// end, if it had one: a piece of a long line has none.
package local

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gantry-engine/gantry/internal/spec"
)

// MaxLine is the longest piece of a line in one record, in bytes.
const MaxLine = 16 << 10

const (
	fixed    = 10 // stream, zero, time
	overhead = 8  // both lengths
	// MaxRecord bounds a whole record.
	MaxRecord = overhead + fixed + MaxLine + 1<<10
)

// ErrRecord is wrapped by errors about bytes that are no record.
var ErrRecord = errors.New("not a record of the local log format")

// Record is one piece of output. Line points into the buffer it was read from.
type Record struct {
	Stream spec.Stream
	Time   int64 // Unix time, nanoseconds
	Line   []byte
}

// Append appends a record.
func Append(dst []byte, r Record) []byte {
	n := uint32(fixed + len(r.Line))
	dst = binary.BigEndian.AppendUint32(dst, n)
	dst = append(dst, byte(r.Stream), 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.Time))
	dst = append(dst, r.Line...)
	return binary.BigEndian.AppendUint32(dst, n)
}

// Decode reads the record that b begins with and tells its whole size. A size of 0 without
// an error means that b ends before the record does.
func Decode(b []byte, r *Record) (size int, err error) {
	if len(b) < 4 {
		return 0, nil
	}
	n := int(binary.BigEndian.Uint32(b))
	if n < fixed || n+overhead > MaxRecord {
		return 0, fmt.Errorf("%w: length %d", ErrRecord, n)
	}
	size = n + overhead
	if len(b) < size {
		return 0, nil
	}
	if binary.BigEndian.Uint32(b[4+n:]) != uint32(n) || b[5] != 0 {
		return 0, fmt.Errorf("%w: its two lengths differ", ErrRecord)
	}
	r.Stream = spec.Stream(b[4])
	if r.Stream != spec.Stdout && r.Stream != spec.Stderr {
		return 0, fmt.Errorf("%w: stream %d", ErrRecord, r.Stream)
	}
	r.Time = int64(binary.BigEndian.Uint64(b[6:]))
	r.Line = b[4+fixed : 4+n]
	return size, nil
}

// LastSize tells the size of the record that b ends with; 0 without an error
// means that b begins inside it.
func LastSize(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	n := int(binary.BigEndian.Uint32(b[len(b)-4:]))
	if n < fixed || n+overhead > MaxRecord {
		return 0, fmt.Errorf("%w: length %d at its end", ErrRecord, n)
	}
	if len(b) < n+overhead {
		return 0, nil
	}
	return n + overhead, nil
}
