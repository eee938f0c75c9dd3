package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/spec"
)

const (
	readChunk = 32 << 10
	// ackEvery is how many bytes a reader consumes before it tells the keeper.
	ackEvery = 256 << 10
)

// reader is one client's position in a spool.
type reader struct {
	of   *followers
	key  spec.ProcessKey
	id   uint32
	wake chan struct{} // one token: look again

	mu          sync.Mutex
	spool, slot int // -1 until the process is launched
	gen         uint64
	pos         uint64
	broken      error
	closed      bool

	// Next's own.
	frame  keeperproto.Frame
	inside int // bytes of the frame delivered
	have   bool
	acked  uint64
	buf    []byte
}

// begin gives the reader its spool and slot. It copies the descriptors.
func (r *reader) begin(fds []int, gen, pos uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spool >= 0 || r.closed {
		return nil
	}
	if len(fds) != 2 {
		r.broken = fmt.Errorf("following %s: the keeper sent %d descriptors: %w", r.key, len(fds), errdefs.ErrInternal)
		r.poke()
		return r.broken
	}
	var err error
	if r.spool, err = unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		r.slot, err = unix.FcntlInt(uintptr(fds[1]), unix.F_DUPFD_CLOEXEC, 0)
	}
	r.gen, r.pos, r.acked, r.broken = gen, pos, pos, err
	r.poke()
	return err
}

// resume puts the watch into place in a new keeper, where it was.
func (r *reader) resume(ctx context.Context, l *link) {
	r.mu.Lock()
	w := keeperproto.Watch{Key: r.key, ID: r.id, Pos: r.pos, Gen: r.gen}
	started := r.spool >= 0
	r.mu.Unlock()
	m, err := l.call(ctx, keeperproto.TypeWatch, w.Encode(), nil)
	if err == nil {
		if reply, derr := keeperproto.DecodeWatchReply(m.Payload); derr == nil && !started {
			_ = r.begin(m.FDs, reply.Gen, reply.Pos)
		}
		m.CloseFDs()
	}
	r.poke() // an ended, forgotten process is read to its end without a keeper
}

func (r *reader) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Next waits for more output. When this reader lagged so far behind that the keeper gave up part of it, a
// chunk on standard error says how much.
func (r *reader) Next(ctx context.Context) (spec.Chunk, error) {
	for {
		c, ok, err := r.read()
		if ok || err != nil {
			return c, err
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return spec.Chunk{}, context.Cause(ctx)
		}
	}
}

// read gives what is there, without waiting.
func (r *reader) read() (c spec.Chunk, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		return c, false, r.broken
	}
	if r.closed {
		return c, false, fmt.Errorf("following %s: the reader was closed: %w", r.key, io.ErrClosedPipe)
	}
	if r.spool < 0 {
		return c, false, nil
	}
	view, err := r.view()
	if err != nil {
		return c, false, err
	}
	if view.Floor > r.pos {
		return r.skip(view), true, nil
	}
	if r.pos >= view.Tail {
		if view.Ended {
			return c, false, io.EOF
		}
		r.ack(true)
		return c, false, nil
	}
	start := r.pos // of the frame, also when a part of it was delivered
	c, err = r.chunk()
	// What was punched while it was read is not what was written.
	if after, verr := r.view(); verr != nil {
		return c, false, verr
	} else if after.Floor > start {
		return r.skip(after), true, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("following %s: %w", r.key, err)
	}
	r.ack(false)
	return c, true, nil
}

func (r *reader) view() (keeperproto.SlotView, error) {
	var b [keeperproto.SlotHead]byte
	if n, err := unix.Pread(r.slot, b[:], 0); err != nil || n != len(b) {
		return keeperproto.SlotView{}, fmt.Errorf("following %s: reading its slot: %w", r.key, errors.Join(err, keeperproto.ErrMalformed))
	}
	return keeperproto.ParseSlot(b[:])
}

// skip goes on at the floor and says how much is missing.
func (r *reader) skip(v keeperproto.SlotView) spec.Chunk {
	lost := v.Floor - r.pos - uint64(r.inside)
	r.pos, r.inside, r.have = v.Floor, 0, false
	r.ack(true)
	text := fmt.Sprintf("\r\ngantry: this client was too slow, %d bytes of output are missing here\r\n", lost)
	return spec.Chunk{Stream: spec.Stderr, Time: time.Now(), Data: []byte(text)}
}

// chunk reads the next piece of a frame.
func (r *reader) chunk() (spec.Chunk, error) {
	if !r.have {
		var h [keeperproto.FrameHeader]byte
		if n, err := unix.Pread(r.spool, h[:], int64(r.pos)); err != nil || n != len(h) {
			return spec.Chunk{}, errors.Join(err, keeperproto.ErrMalformed)
		}
		f, err := keeperproto.ParseFrame(h[:])
		if err != nil {
			return spec.Chunk{}, err
		}
		r.frame, r.inside, r.have = f, 0, true
	}
	want := min(r.frame.Len-r.inside, readChunk)
	if cap(r.buf) < want {
		r.buf = make([]byte, want)
	}
	buf := r.buf[:want]
	n, err := unix.Pread(r.spool, buf, int64(r.pos)+keeperproto.FrameHeader+int64(r.inside))
	if err != nil || n <= 0 {
		return spec.Chunk{}, errors.Join(err, keeperproto.ErrMalformed)
	}
	r.inside += n
	c := spec.Chunk{Stream: r.frame.Stream, Time: time.Unix(0, r.frame.Time), Data: buf[:n]}
	if r.inside == r.frame.Len {
		r.pos += keeperproto.FrameHeader + uint64(r.frame.Len)
		r.have = false
	}
	return c, nil
}

// ack tells the keeper what was consumed: now and then, and before waiting.
func (r *reader) ack(now bool) {
	if !now && r.pos-r.acked < ackEvery {
		return
	}
	if r.of.conn.tell(keeperproto.TypeAck, keeperproto.Ack{ID: r.id, Pos: r.pos}) {
		r.acked = r.pos
	}
}

// Close ends the subscription.
func (r *reader) Close() error {
	r.of.leave(r) // first: no later link puts its watch into place
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.poke()
	if r.spool >= 0 {
		_ = unix.Close(r.spool)
		_ = unix.Close(r.slot)
		r.of.conn.tell(keeperproto.TypeUnwatch, keeperproto.Ack{ID: r.id})
	}
	return nil
}
