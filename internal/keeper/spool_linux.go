package keeper

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

const (
	spliceMax    = 128 << 10 // one turn of one stream
	pauseAt      = 4 << 20   // unlogged bytes that make a process wait for its log
	resumeAt     = 1 << 20
	punchIdle    = 16 << 10 // consumed bytes worth a system call when nothing waits
	punchBusy    = 1 << 20
	defaultSpool = 64 << 20  // unread bytes kept for attached clients, per process
	defaultTotal = 512 << 20 // for all processes
	fairShare    = 4 << 20   // what a process keeps for its clients when the total is used up
)

// spool is one process's output on its way. The loop appends; readers are the log
// writer and watches.
type spool struct {
	fd   int
	slot *slotPage
}

// appendFrom moves what fd (a pipe) holds to the spool's end, as one frame. It gives 0, nil at end
// of file and unix.EAGAIN when nothing is there.
func (s *spool) appendFrom(fd int, stream spec.Stream) (int, error) {
	tail := s.slot.tail.Load()
	if err := s.roomForHeader(tail); err != nil {
		return 0, err
	}
	now := time.Now().UnixNano()
	s.slot.pendStream.Store(uint64(stream))
	s.slot.pendTime.Store(now)
	failpoint.Hit("keeper.spool-intent")
	off := int64(tail) + keeperproto.FrameHeader
	n, err := unix.Splice(fd, nil, s.fd, &off, spliceMax, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	if n <= 0 {
		return 0, err
	}
	failpoint.Hit("keeper.spool-spliced")
	if err := s.frame(tail, keeperproto.Frame{Time: now, Stream: stream, Len: int(n)}); err != nil {
		return 0, err
	}
	return int(n), nil
}

// roomForHeader makes sure that a frame's header finds room once its data was taken: data without a
// header would be lost. Mostly the header lies in the page of the frame before.
func (s *spool) roomForHeader(at uint64) error {
	if at%4096 != 0 && at%4096 <= 4096-keeperproto.FrameHeader {
		return nil
	}
	var zero [keeperproto.FrameHeader]byte
	_, err := unix.Pwrite(s.fd, zero[:], int64(at))
	return err
}

func (s *spool) frame(at uint64, f keeperproto.Frame) error {
	var h [keeperproto.FrameHeader]byte
	keeperproto.PutFrame(h[:], f)
	if _, err := unix.Pwrite(s.fd, h[:], int64(at)); err != nil {
		return fmt.Errorf("framing output in the spool: %w", err)
	}
	failpoint.Hit("keeper.spool-framed")
	s.slot.tail.Store(at + keeperproto.FrameHeader + uint64(f.Len))
	return nil
}

// recover frames what a killed keeper spliced and did not frame.
func (s *spool) recover() error {
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		return err
	}
	tail := s.slot.tail.Load()
	n := st.Size - int64(tail) - keeperproto.FrameHeader
	if n <= 0 {
		return nil
	}
	if n > keeperproto.MaxFrame {
		return fmt.Errorf("spool: %w: %d bytes after its end", keeperproto.ErrMalformed, n)
	}
	return s.frame(tail, keeperproto.Frame{
		Time: s.slot.pendTime.Load(), Stream: spec.Stream(s.slot.pendStream.Load()), Len: int(n),
	})
}

// ended tells whether no more output comes.
func (s *spool) ended() bool { return s.slot.ended.Load() != 0 }

// read fills in from a position on.
func (s *spool) read(in []byte, at uint64) error {
	for off := 0; off < len(in); {
		m, err := unix.Pread(s.fd, in[off:], int64(at)+int64(off))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if m == 0 {
			return keeperproto.ErrMalformed
		}
		off += m
	}
	return nil
}

// payload counts the bytes of output between two frames; with the headers where these cannot be read.
func (s *spool) payload(from, to uint64) (n uint64) {
	var h [keeperproto.FrameHeader]byte
	for at := from; at < to; {
		m, err := unix.Pread(s.fd, h[:], int64(at))
		f, perr := keeperproto.ParseFrame(h[:max(m, 0)])
		if err != nil || perr != nil {
			return n + to - at
		}
		n += uint64(f.Len)
		at += keeperproto.FrameHeader + uint64(f.Len)
	}
	return n
}

// punch gives what is before floor back to the system. floor is at a frame's
// begin. Readers look at the floor after reading, so it is stored first.
func (s *spool) punch(floor uint64) {
	old := s.slot.floor.Load()
	if floor <= old {
		return
	}
	s.slot.floor.Store(floor)
	failpoint.Hit("keeper.spool-punch")
	// Whole pages only: the page that a frame begins in stays until it is consumed.
	from, to := int64(old)&^4095, int64(floor)&^4095
	if to > from {
		_ = unix.Fallocate(s.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
	}
}
