package keeper

import (
	"bytes"
	"fmt"
	"time"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/logformat/jsonfile"
	"github.com/gantry-engine/gantry/internal/logformat/local"
	"github.com/gantry-engine/gantry/internal/spec"
)

const (
	logInput  = 256 << 10   // at least one whole frame of spliceMax
	logOutput = 512 << 10   // a batch ends after it
	fullRetry = time.Second // how often a full disk is tried again
)

// logBuf is what a worker needs; workers share a few of them.
type logBuf struct {
	in, out, suffix []byte
	cur             logCursor
	moved           uint64 // payload bytes that the last format took in
}

// logWriter makes one process's log of its spool: it formats, and remembers how far it is. Only one worker at a time is in it.
type logWriter struct {
	file  logFile
	saved uint64    // position in the spool that is committed
	full  time.Time // when the file took nothing last, or could not be opened
}

// commit makes a state the one that is gone on from. Where that fails the former one stays, which gives the
// same bytes at the same places.
func (w *logWriter) commit(s *slotPage, c *logCursor) {
	if s.store(c) {
		w.saved = c.frame
	}
}

// format turns spool bytes (frames from cur.frame on) into log entries in
// b.out and moves b.cur. It ends at the input's end, when enough output is there, or at limit
// bytes of log file, always between two entries.
func (w *logWriter) format(b *logBuf, in []byte, limit int64) error {
	c := &b.cur
	for len(in) >= keeperproto.FrameHeader {
		f, err := keeperproto.ParseFrame(in)
		if err != nil {
			return err
		}
		if len(in) < keeperproto.FrameHeader+f.Len {
			return nil
		}
		data := in[keeperproto.FrameHeader : keeperproto.FrameHeader+f.Len]
		if !w.formatFrame(b, f, data, limit) {
			return nil
		}
		in = in[keeperproto.FrameHeader+f.Len:]
		c.frame += keeperproto.FrameHeader + uint64(f.Len)
		c.inside = 0
	}
	return nil
}

func (w *logWriter) enough(b *logBuf, limit int64) bool {
	return len(b.out) >= logOutput || limit > 0 && b.cur.offset+int64(len(b.out)) >= limit
}

// formatFrame gives false when it stopped before the frame's end.
func (w *logWriter) formatFrame(b *logBuf, f keeperproto.Frame, data []byte, limit int64) bool {
	c := &b.cur
	s := streamIndex(f.Stream)
	if w.file.cfg.Driver == keeperproto.LogJSON {
		b.suffix = jsonfile.AppendSuffix(b.suffix[:0], f.Stream, f.Time, w.file.cfg.Attrs)
	}
	data = data[c.inside:]
	for len(data) > 0 {
		if w.enough(b, limit) {
			return false
		}
		// A piece of carrySize bytes without a line end goes out as it is, so there is always room.
		room := carrySize - len(c.carry[s])
		n := bytes.IndexByte(data[:min(len(data), room)], '\n') + 1
		if n == 0 && len(data) >= room {
			n = room
		}
		if n == 0 {
			c.carry[s] = append(c.carry[s], data...)
			c.inside += uint64(len(data))
			b.moved += uint64(len(data))
			return true
		}
		line := data[:n]
		if len(c.carry[s]) > 0 {
			c.carry[s] = append(c.carry[s], line...)
			line = c.carry[s]
		}
		w.entry(b, f.Stream, f.Time, line)
		c.carry[s] = c.carry[s][:0]
		data = data[n:]
		c.inside += uint64(n)
		b.moved += uint64(n)
	}
	return true
}

func (w *logWriter) entry(b *logBuf, stream spec.Stream, unixNano int64, line []byte) {
	if w.file.cfg.Driver == keeperproto.LogJSON {
		b.out = jsonfile.AppendEntry(b.out, line, b.suffix)
		return
	}
	b.out = local.Append(b.out, local.Record{Stream: stream, Time: unixNano, Line: line})
}

// flush writes incomplete lines at the end of all output.
func (w *logWriter) flush(b *logBuf, unixNano int64) {
	for s := range b.cur.carry {
		if len(b.cur.carry[s]) == 0 {
			continue
		}
		stream := spec.Stdout + spec.Stream(s)
		b.suffix = jsonfile.AppendSuffix(b.suffix[:0], stream, unixNano, w.file.cfg.Attrs)
		w.entry(b, stream, unixNano, b.cur.carry[s])
		b.cur.carry[s] = b.cur.carry[s][:0]
	}
	b.cur.flushed = 1
}

// note writes into the log how much it lacks, with the time of the frame that
// comes next: when it is redone after a kill, it is the same.
func (w *logWriter) note(b *logBuf, in []byte) {
	if f, err := keeperproto.ParseFrame(in); err == nil {
		w.noteAt(b, f.Time)
	}
}

func (w *logWriter) noteAt(b *logBuf, unixNano int64) {
	if b.cur.lostB == 0 {
		return
	}
	text := fmt.Appendf(nil, "gantry: %d bytes of output are missing here, the disk was full or too slow\n", b.cur.lostB)
	b.suffix = jsonfile.AppendSuffix(b.suffix[:0], spec.Stderr, unixNano, w.file.cfg.Attrs)
	w.entry(b, spec.Stderr, unixNano, text)
	b.cur.lostB = 0
}
