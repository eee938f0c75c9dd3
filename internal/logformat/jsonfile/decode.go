package jsonfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gantry-engine/gantry/internal/spec"
)

// ErrEntry is wrapped by errors about lines that are no log entry.
var ErrEntry = errors.New("not a json-file log entry")

// Entry is one decoded entry. Line and Attrs are valid until the next Decode.
type Entry struct {
	Stream spec.Stream
	Time   time.Time
	Line   []byte
	Attrs  map[string]string
}

// Decoder reads entries. Its zero value is ready; it keeps buffers between calls.
type Decoder struct {
	buf      []byte
	lastText []byte
	lastTime time.Time
}

var (
	logKey    = []byte(`{"log":"`)
	stdoutKey = []byte(`","stream":"stdout","time":"`)
	stderrKey = []byte(`","stream":"stderr","time":"`)
	entryEnd  = []byte(`"}`)
)

// Decode reads one line of a log file, with or without its line end.
func (d *Decoder) Decode(line []byte, e *Entry) error {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	if d.fast(line, e) {
		return nil
	}
	return d.slow(line, e)
}

// fast reads what this package and Docker write without attributes; anything
// unexpected is left to the general decoder.
func (d *Decoder) fast(line []byte, e *Entry) bool {
	if len(line) < len(logKey)+len(entryEnd) || !bytes.HasPrefix(line, logKey) || !bytes.HasSuffix(line, entryEnd) {
		return false
	}
	body := line[len(logKey) : len(line)-len(entryEnd)]
	text, rest, ok := d.unescape(body)
	if !ok {
		return false
	}
	switch {
	case bytes.HasPrefix(rest, stdoutKey):
		e.Stream = spec.Stdout
	case bytes.HasPrefix(rest, stderrKey):
		e.Stream = spec.Stderr
	default:
		return false
	}
	stamp := rest[len(stdoutKey):]
	if !bytes.Equal(stamp, d.lastText) {
		t, ok := parseTime(stamp)
		if !ok {
			return false
		}
		d.lastText, d.lastTime = append(d.lastText[:0], stamp...), t
	}
	e.Time, e.Line, e.Attrs = d.lastTime, text, nil
	return true
}

// unescape reads a JSON string's content up to its closing quote. rest begins with the quote.
func (d *Decoder) unescape(s []byte) (text, rest []byte, ok bool) {
	q := bytes.IndexByte(s, '"')
	if q < 0 {
		return nil, nil, false
	}
	b := bytes.IndexByte(s[:q], '\\')
	if b < 0 {
		return s[:q], s[q:], true
	}
	out := append(d.buf[:0], s[:b]...)
	for i := b; i < len(s); {
		c := s[i]
		if c == '"' {
			d.buf = out
			return out, s[i:], true
		}
		if c != '\\' {
			j := i + 1
			for j < len(s) && s[j] != '"' && s[j] != '\\' {
				j++
			}
			out = append(out, s[i:j]...)
			i = j
			continue
		}
		if i+1 >= len(s) {
			return nil, nil, false
		}
		switch s[i+1] {
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case '"', '\\', '/':
			out = append(out, s[i+1])
		case 'u':
			v, ok := hex4(s[i+2:])
			if !ok || v >= 0xd800 && v < 0xe000 {
				return nil, nil, false // surrogates: the general decoder knows
			}
			out = append(out, string(rune(v))...)
			i += 4
		default:
			return nil, nil, false
		}
		i += 2
	}
	return nil, nil, false
}

func hex4(s []byte) (v uint32, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint32(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint32(c-'a'+10)
		case c >= 'A' && c <= 'F':
			v = v<<4 | uint32(c-'A'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

// parseTime reads RFC 3339 in UTC ("…Z"), the only form that is written.
func parseTime(s []byte) (time.Time, bool) {
	if len(s) < 20 || s[len(s)-1] != 'Z' || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return time.Time{}, false
	}
	num := func(a, b int) int {
		n := 0
		for _, c := range s[a:b] {
			if c < '0' || c > '9' {
				return -1 << 20
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	year, month, day := num(0, 4), num(5, 7), num(8, 10)
	hour, minute, sec := num(11, 13), num(14, 16), num(17, 19)
	if year < 0 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || sec < 0 || sec > 59 {
		return time.Time{}, false
	}
	nano := 0
	if frac := s[19 : len(s)-1]; len(frac) > 0 {
		if frac[0] != '.' || len(frac) > 10 || len(frac) < 2 {
			return time.Time{}, false
		}
		nano = num(20, 20+len(frac)-1)
		if nano < 0 {
			return time.Time{}, false
		}
		for i := len(frac) - 1; i < 9; i++ {
			nano *= 10
		}
	}
	t := time.Date(year, time.Month(month), day, hour, minute, sec, nano, time.UTC)
	return t, t.Day() == day
}

func (d *Decoder) slow(line []byte, e *Entry) error {
	var raw struct {
		Log    *string           `json:"log"`
		Stream string            `json:"stream"`
		Time   time.Time         `json:"time"`
		Attrs  map[string]string `json:"attrs"`
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return fmt.Errorf("%w: %v", ErrEntry, err)
	}
	if raw.Log == nil && raw.Stream == "" {
		return fmt.Errorf("%w: neither log nor stream", ErrEntry)
	}
	e.Stream = spec.Stdout
	if raw.Stream == "stderr" {
		e.Stream = spec.Stderr
	}
	d.buf = d.buf[:0]
	if raw.Log != nil {
		d.buf = append(d.buf, *raw.Log...)
	}
	e.Time, e.Line, e.Attrs = raw.Time, d.buf, raw.Attrs
	return nil
}
