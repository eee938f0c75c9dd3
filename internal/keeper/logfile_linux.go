package keeper

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/logformat/local"
)

// logFile is the file that a process's log is in, and the older ones beside it. Only one worker at a time is in it.
type logFile struct {
	cfg       keeperproto.Log
	fd        int           // -1 when not open
	compress  chan struct{} // closed when the compression under way is done; nil for none
	complains func(string, ...any)
}

// close closes it until it is opened again.
func (l *logFile) close() {
	if l.fd >= 0 {
		_ = unix.Close(l.fd)
		l.fd = -1
	}
}

// open opens the log file and gives its size; a torn last record, which only a crash of
// the machine leaves, is repaired.
func (l *logFile) open() (int64, error) {
	l.close()
	fd, err := unix.Open(l.cfg.Path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return 0, fmt.Errorf("opening the log %s: %w", l.cfg.Path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	l.fd = fd
	return st.Size, nil
}

// repair gives the size up to which an existing file has whole entries.
func (l *logFile) repair(size int64) int64 {
	n := min(size, 64<<10)
	if n == 0 {
		return 0
	}
	b := make([]byte, n)
	if m, err := unix.Pread(l.fd, b, size-n); err != nil || int64(m) != n {
		return size
	}
	switch l.cfg.Driver {
	case keeperproto.LogJSON:
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
			return size - n + int64(i) + 1
		}
	case keeperproto.LogLocal:
		// Walk back over torn bytes until a record ends here.
		for end := len(b); end > 0; end-- {
			m, err := local.LastSize(b[:end])
			if err != nil || m == 0 {
				continue
			}
			var r local.Record
			if got, err := local.Decode(b[end-m:end], &r); err == nil && got == m {
				return size - n + int64(end)
			}
		}
	}
	return size
}

// ready opens the log, ends a rotation that a kill interrupted, and notices when somebody
// truncated the file.
func (l *logFile) ready(c *logCursor, commit func()) error {
	if c.rotate > 0 {
		if err := l.rotate(c, commit); err != nil {
			return err
		}
	}
	if l.fd < 0 {
		size, err := l.open()
		if err != nil {
			return err
		}
		if size < c.offset {
			c.offset = size
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(l.fd, &st); err != nil {
		return err
	}
	if st.Size < c.offset {
		c.offset = st.Size
	}
	return nil
}

// errFull is a log that took nothing because its disk is full.
var errFull = errors.New("the log's disk is full")

// write puts out at an offset and gives the one behind it. Where that fails the file ends at the former one again.
func (l *logFile) write(out []byte, begin int64) (end int64, err error) {
	off := begin
	for len(out) > 0 {
		n, err := unix.Pwrite(l.fd, out, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			_ = unix.Ftruncate(l.fd, begin)
			if err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EFBIG {
				return begin, errFull
			}
			return begin, err
		}
		out, off = out[n:], off+int64(n)
	}
	return off, nil
}
