package keeperproto

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/gantry-engine/gantry/internal/spec"
)

// FrameHeader is the size in bytes of what stands before a frame's data. A spool file is a sequence of frames. Positions are offsets in the file and
// only grow; what everybody has consumed is punched out.
//
//	[time 8: Unix nanoseconds][stream 1][0 0 0][length 4][data …]
const FrameHeader = 16

// MaxFrame bounds a frame's data: one splice takes no more from a pipe.
const MaxFrame = 1 << 20

// Frame is a frame's header.
type Frame struct {
	Time   int64 // Unix time, nanoseconds
	Stream spec.Stream
	Len    int
}

// PutFrame writes a header into b, which has FrameHeader bytes.
func PutFrame(b []byte, f Frame) {
	binary.BigEndian.PutUint64(b[0:], uint64(f.Time))
	b[8], b[9], b[10], b[11] = byte(f.Stream), 0, 0, 0
	binary.BigEndian.PutUint32(b[12:], uint32(f.Len))
}

// ParseFrame reads a header.
func ParseFrame(b []byte) (Frame, error) {
	if len(b) < FrameHeader {
		return Frame{}, fmt.Errorf("%w: a frame header of %d bytes", ErrMalformed, len(b))
	}
	n := binary.BigEndian.Uint32(b[12:])
	f := Frame{Time: int64(binary.BigEndian.Uint64(b[0:])), Stream: spec.Stream(b[8]), Len: int(n)}
	if n == 0 || n > MaxFrame || f.Stream < spec.Stdout || f.Stream > spec.Stderr || b[9]|b[10]|b[11] != 0 {
		return Frame{}, fmt.Errorf("%w: spool frame of stream %d with %d bytes", ErrMalformed, f.Stream, n)
	}
	return f, nil
}

// The slot is a small file beside the spool that the keeper maps into memory, so
// that what it is about to do survives it. Readers look at these fields, eight
// bytes each in the machine's byte order, with pread.
const (
	SlotTail  = 16 // everything before it is complete frames
	SlotFloor = 24 // everything before it may be gone
	SlotEnded = 32 // 1: no further output will come
	SlotHead  = 40 // bytes a reader needs
)

// SlotView is what a reader sees in a slot.
type SlotView struct {
	Tail, Floor uint64
	Ended       bool
}

// ParseSlot reads the first SlotHead bytes of a slot.
func ParseSlot(b []byte) (SlotView, error) {
	if len(b) < SlotHead {
		return SlotView{}, fmt.Errorf("%w: a slot of %d bytes", ErrMalformed, len(b))
	}
	return SlotView{
		Tail:  binary.NativeEndian.Uint64(b[SlotTail:]),
		Floor: binary.NativeEndian.Uint64(b[SlotFloor:]),
		Ended: binary.NativeEndian.Uint64(b[SlotEnded:]) != 0,
	}, nil
}

// Names of files below the keeper's folder in the exec root.
const (
	Dir        = "keeper"      // the folder itself
	SocketName = "keeper.sock" // where gantryd connects
	ProcsDir   = "p"           // one folder per process
	ExitName   = "exit"        // exit record, in a process's folder
	AnchorPID  = "anchor.pid"  // who holds the lock
	LogName    = "keeper.log"  // what keeper and anchor have to say
	LockName   = "anchor.lock" // flock'ed by the one anchor
	KeeperLock = "keeper.lock" // flock'ed by the one keeper
)

// ProcName is a process's folder name: the container's ID, and the exec's after a dot.
func ProcName(k spec.ProcessKey) (string, error) {
	if !validID(k.Container) || (k.Exec != "" && !validID(k.Exec)) {
		return "", fmt.Errorf("%w: %q is no process key", ErrMalformed, k.String())
	}
	if k.Exec == "" {
		return k.Container, nil
	}
	return k.Container + "." + k.Exec, nil
}

func validID(s string) bool {
	if len(s) == 0 || len(s) > 100 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// KeyOf is ProcName's inverse.
func KeyOf(name string) spec.ProcessKey {
	container, exec, _ := strings.Cut(name, ".")
	return spec.ProcessKey{Container: container, Exec: exec}
}
