package stdio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

const (
	// Block is what is read at once of a long output, in bytes.
	Block       = 128 << 10
	firstBlock  = 8 << 10 // the same at first: most outputs are short, and fresh memory is not free
	frameHeader = 8
	// longestNotice bounds an error text that the engine puts into a stream, in bytes.
	longestNotice = 64 << 10
)

// Streams of a frame, as the first byte of its header tells them.
const (
	frameStdin = iota // older engines: shown as output
	frameStdout
	frameStderr
	frameNotice // an error of the engine
)

// Demux takes a stream of frames apart. What one read brought goes out in as few writes as
// possible, before the next read; the order between both outputs is kept unless apart says
// that nobody can see it. A stream that ends inside a frame ends there without an error.
func Demux(out, errs io.Writer, src io.Reader, apart bool) error {
	d := demuxer{out: [2]io.Writer{out, errs}, apart: apart}
	buf := make([]byte, firstBlock)
	held := 0 // bytes of a header that is not complete
	for {
		n, err := src.Read(buf[held:])
		n += held
		used, bad := d.take(buf[:n])
		if werr := d.flush(); werr != nil {
			return werr
		}
		if bad != nil {
			return bad
		}
		if n == len(buf) && n < Block {
			buf = append(make([]byte, 0, Block), buf...)[:Block]
		}
		held = copy(buf, buf[used:n])
		if errors.Is(err, io.EOF) {
			return d.notice()
		}
		if err != nil {
			return err
		}
	}
}

type demuxer struct {
	out     [2]io.Writer
	apart   bool
	pending [2][]byte
	stream  byte // of the frame under way
	left    int  // bytes that it still has
	text    []byte
}

// take uses up what b has, but for an incomplete header at its end.
func (d *demuxer) take(b []byte) (used int, err error) {
	size := len(b)
	for {
		if d.left > 0 {
			n := min(d.left, len(b))
			if err := d.put(b[:n]); err != nil {
				return size - len(b), err
			}
			b = b[n:]
			d.left -= n
		}
		if d.left == 0 {
			if err := d.notice(); err != nil {
				return size - len(b), err
			}
		}
		if len(b) < frameHeader {
			return size - len(b), nil
		}
		if d.stream = b[0]; d.stream > frameNotice {
			return size - len(b), fmt.Errorf("unrecognized stream: %d", d.stream)
		}
		d.left = int(binary.BigEndian.Uint32(b[4:]))
		b = b[frameHeader:]
	}
}

// put gathers a piece of the frame under way.
func (d *demuxer) put(b []byte) error {
	if d.stream == frameNotice {
		d.text = append(d.text, b[:min(len(b), longestNotice-len(d.text))]...)
		return nil
	}
	i := 0
	if d.stream == frameStderr {
		i = 1
	}
	if !d.apart && len(d.pending[1-i]) > 0 {
		if err := d.write(1 - i); err != nil {
			return err
		}
	}
	d.pending[i] = append(d.pending[i], b...)
	return nil
}

func (d *demuxer) write(i int) error {
	b := d.pending[i]
	d.pending[i] = b[:0]
	if len(b) == 0 {
		return nil
	}
	_, err := d.out[i].Write(b)
	return err
}

func (d *demuxer) flush() error { return errors.Join(d.write(0), d.write(1)) }

// notice is the engine's error in the stream, once its frame (or the stream) has ended.
func (d *demuxer) notice() error {
	if d.stream != frameNotice {
		return nil
	}
	return fmt.Errorf("error from daemon in stream: %s", d.text)
}

// OutputsApart tells whether nobody can see in which order both outputs are written: each is a
// file or pipe of its own.
func OutputsApart(a *app.App) bool {
	out, ok1 := a.Out.Writer.(*os.File)
	errs, ok2 := a.Err.(*os.File)
	if !ok1 || !ok2 || a.Out.IsTerminal() {
		return false
	}
	so, err1 := out.Stat()
	se, err2 := errs.Stat()
	if err1 != nil || err2 != nil || os.SameFile(so, se) {
		return false
	}
	for _, st := range []os.FileInfo{so, se} {
		if !st.Mode().IsRegular() && st.Mode()&os.ModeNamedPipe == 0 {
			return false
		}
	}
	return true
}
