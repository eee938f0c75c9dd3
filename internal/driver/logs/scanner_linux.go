package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gantry-engine/gantry/internal/logformat/jsonfile"
	"github.com/gantry-engine/gantry/internal/logformat/local"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

const (
	blockSize = 128 << 10 // what is read at once: a batch and its entries stay in the processor's cache
	batchSize = 1024      // entries at most in a batch
	// longest is the longest line that can be an entry: a piece of 16 KiB, escaped, and attributes.
	longest = 4 << 20
)

// scanner reads entries from one file. At the file's end it keeps what is
// incomplete, so that it can go on when the file has grown.
type scanner struct {
	src   io.Reader
	local bool
	buf   []byte
	r, w  int
	long  bool // inside a line that is too long to be an entry
	dec   jsonfile.Decoder
	batch []containers.LogEntry
}

func newScanner(src io.Reader, driver string) *scanner {
	return &scanner{src: src, local: driver == "local", buf: make([]byte, blockSize), batch: make([]containers.LogEntry, 0, batchSize)}
}

// next gives the entries that follow, as many as one read brought; none at the
// end of what is there. They are valid until the next call.
func (s *scanner) next() ([]containers.LogEntry, error) {
	s.batch = s.batch[:0]
	for {
		if err := s.parse(); err != nil || len(s.batch) > 0 {
			// What stands before damage is given out; the damage is met again at the next call.
			if len(s.batch) > 0 {
				err = nil
			}
			return s.batch, err
		}
		if more, err := s.fill(); !more {
			return nil, err
		}
	}
}

// fill reads more behind what is not used yet.
func (s *scanner) fill() (bool, error) {
	if s.r > 0 {
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
	if s.w == len(s.buf) {
		if len(s.buf) >= longest {
			s.w, s.long = 0, true // no entry of ours
		} else {
			s.buf = append(s.buf, make([]byte, len(s.buf))...)
		}
	}
	n, err := s.src.Read(s.buf[s.w:])
	s.w += n
	if n > 0 {
		return true, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return false, nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil // a compressed file cut short by a crash of the machine
	}
	return false, fmt.Errorf("reading a log: %w", err)
}

// parse makes a batch of the whole entries in the buffer.
func (s *scanner) parse() error {
	if s.local {
		return s.parseLocal()
	}
	s.parseJSON()
	return nil
}

func (s *scanner) parseJSON() {
	if s.long {
		n := bytes.IndexByte(s.buf[s.r:s.w], '\n')
		if n < 0 {
			s.r = s.w
			return
		}
		s.r += n + 1
		s.long = false
	}
	for s.r < s.w && len(s.batch) < batchSize {
		if s.buf[s.r] == 0 { // a crash of the machine can leave zeros in front of an entry
			s.r++
			continue
		}
		i := len(s.batch)
		n, err := s.dec.Next(s.buf[s.r:s.w], &s.batch[:i+1][i])
		if n == 0 {
			return
		}
		s.r += n
		if err == nil { // else torn by a crash of the machine, or somebody else's: the rest is still good
			s.batch = s.batch[:i+1]
		}
	}
}

func (s *scanner) parseLocal() error {
	var x local.Record
	for s.r < s.w && len(s.batch) < batchSize {
		n, err := local.Decode(s.buf[s.r:s.w], &x)
		if err != nil || n == 0 {
			return err
		}
		s.r += n
		s.batch = append(s.batch, containers.LogEntry{Stream: x.Stream, Time: time.Unix(0, x.Time), Line: x.Line})
	}
	return nil
}

// lastEntries finds where the last n entries of a file begin. found is how many there are, if fewer.
func lastEntries(f io.ReaderAt, size int64, n int, driver string) (off int64, found int, err error) {
	if driver == "local" {
		return lastRecords(f, size, n)
	}
	end := size
	buf := make([]byte, 64<<10)
	first := true
	for end > 0 {
		k := min(end, int64(len(buf)))
		b := buf[:k]
		if _, err := f.ReadAt(b, end-k); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := len(b); i > 0; {
			j := bytes.LastIndexByte(b[:i], '\n')
			if j < 0 {
				break
			}
			if first {
				first = false // the last entry's own end; what follows it is being written
			} else if found++; found == n {
				return end - k + int64(j) + 1, found, nil
			}
			i = j
		}
		end -= k
	}
	if !first {
		found++
	}
	return 0, min(found, n), nil
}

func lastRecords(f io.ReaderAt, size int64, n int) (off int64, found int, err error) {
	buf := make([]byte, local.MaxRecord)
	for size > 0 && found < n {
		k := min(size, int64(len(buf)))
		b := buf[:k]
		if _, err := f.ReadAt(b, size-k); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for len(b) > 0 && found < n {
			m, err := local.LastSize(b)
			if err != nil {
				return 0, 0, err
			}
			if m == 0 {
				break
			}
			b = b[:len(b)-m]
			found++
		}
		if int64(len(b)) == k {
			return 0, 0, fmt.Errorf("%w: a record of no sensible size", local.ErrRecord)
		}
		size -= k - int64(len(b))
	}
	return size, found, nil
}
