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

// Entry is one decoded entry. Line points into the decoded bytes where that is
// possible. Attrs is shared by entries with the same attributes.
type Entry struct {
	Stream spec.Stream
	Time   time.Time
	Line   []byte
	Attrs  map[string]string
}

// Decoder reads entries. Its zero value is ready. It remembers how the last entry
// ended: entries of one moment differ only in their text, and then nothing but
// the text has to be looked at.
type Decoder struct {
	end    []byte // from the text's closing quote to the line end
	stream spec.Stream
	time   time.Time
	attrs  map[string]string
}

const (
	textKey   = `{"log":"`
	streamKey = `","stream":"std`
	attrsKey  = `,"attrs":`
	timeKey   = `,"time":"`
)

// Next reads the entry that b begins with and gives the size of its line, line end
// included; 0 means that b ends before the line does. On an error the line is none of
// ours, and size tells where the next one begins. b is overwritten: texts are
// unescaped in place, and stay valid as long as b does.
func (d *Decoder) Next(b []byte, e *Entry) (size int, err error) {
	if len(b) > len(textKey) && string(b[:len(textKey)]) == textKey {
		s := b[len(textKey):]
		q := bytes.IndexByte(s, '"')
		// The usual case: no escape but the line end's.
		if q >= 2 && s[q-2] == '\\' && s[q-1] == 'n' && d.endsAlike(s[q:]) && bytes.IndexByte(s[:q-2], '\\') < 0 {
			s[q-2] = '\n'
			d.fill(e, s[:q-1])
			return len(textKey) + q + len(d.end), nil
		}
	}
	n := bytes.IndexByte(b, '\n')
	if n < 0 {
		return 0, nil
	}
	return n + 1, d.Decode(b[:n+1], e)
}

// endsAlike tells whether s begins with the remembered end.
func (d *Decoder) endsAlike(s []byte) bool {
	return len(d.end) > 0 && len(s) >= len(d.end) && string(s[:len(d.end)]) == string(d.end)
}

func (d *Decoder) fill(e *Entry, text []byte) {
	e.Stream, e.Time, e.Line, e.Attrs = d.stream, d.time, text, d.attrs
}

// Decode reads one line of a log file, with or without its line end. It overwrites line, as Next does.
func (d *Decoder) Decode(line []byte, e *Entry) error {
	if d.fast(line, e) {
		return nil
	}
	return slow(line, e)
}

// fast reads what this package and Docker write. Anything unexpected is left to
// the general decoder; line is untouched then.
func (d *Decoder) fast(line []byte, e *Entry) bool {
	if len(line) < len(textKey) || string(line[:len(textKey)]) != textKey {
		return false
	}
	body := line[len(textKey):]
	q := closingQuote(body)
	if q < 0 || !d.readEnd(body[q:]) {
		return false
	}
	text, ok := unescape(body[:q])
	if ok {
		d.fill(e, text)
	}
	return ok
}

// closingQuote finds the first quote that is not escaped, or gives -1.
func closingQuote(s []byte) int {
	for i := 0; ; {
		q := bytes.IndexByte(s[i:], '"')
		if q < 0 {
			return -1
		}
		q += i
		slashes := 0
		for slashes < q && s[q-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return q
		}
		i = q + 1
	}
}

// readEnd reads what follows an entry's text, and remembers it.
func (d *Decoder) readEnd(s []byte) bool {
	s = bytes.TrimSuffix(s, []byte{'\n'})
	if n := len(d.end) - 1; n > 0 && len(s) == n && string(s) == string(d.end[:n]) {
		return true
	}
	rest, ok := bytes.CutPrefix(s, []byte(streamKey))
	if !ok || len(rest) < 4 || rest[3] != '"' {
		return false
	}
	stream := spec.Stdout
	switch string(rest[:3]) {
	case "out":
	case "err":
		stream = spec.Stderr
	default:
		return false
	}
	rest = rest[4:]
	var attrs map[string]string
	i := bytes.LastIndex(rest, []byte(timeKey))
	if i < 0 || !bytes.HasSuffix(rest, []byte(`"}`)) {
		return false
	}
	if i > 0 {
		object, ok := bytes.CutPrefix(rest[:i], []byte(attrsKey))
		if !ok || json.Unmarshal(object, &attrs) != nil {
			return false
		}
	}
	from, to := i+len(timeKey), len(rest)-2
	if from > to {
		return false
	}
	t, ok := parseTime(rest[from:to])
	if !ok {
		return false
	}
	d.end = append(append(d.end[:0], s...), '\n')
	d.stream, d.time, d.attrs = stream, t, attrs
	return true
}

// unescape reads a JSON string's content, in place. s is unchanged where it gives false.
func unescape(s []byte) (text []byte, ok bool) {
	b := bytes.IndexByte(s, '\\')
	if b < 0 {
		return s, true
	}
	if !canUnescape(s[b:]) {
		return nil, false
	}
	w := b
	for i := b; i < len(s); {
		if s[i] != '\\' {
			n := bytes.IndexByte(s[i:], '\\')
			if n < 0 {
				n = len(s) - i
			}
			w += copy(s[w:], s[i:i+n])
			i += n
			continue
		}
		c := s[i+1]
		i += 2
		switch c {
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'u':
			v, _ := hex4(s[i:])
			i += 4
			w += copy(s[w:], string(rune(v))) // at most three bytes for six
			continue
		}
		s[w] = c
		w++
	}
	return s[:w], true
}

// canUnescape tells whether unescape knows all escapes in s.
func canUnescape(s []byte) bool {
	for {
		b := bytes.IndexByte(s, '\\')
		if b < 0 {
			return true
		}
		if s = s[b+1:]; len(s) == 0 {
			return false
		}
		switch s[0] {
		case 'n', 'r', 't', 'b', 'f', '"', '\\', '/':
		case 'u':
			v, ok := hex4(s[1:])
			if !ok || v >= 0xd800 && v < 0xe000 {
				return false // surrogates: the general decoder knows
			}
			s = s[4:]
		default:
			return false
		}
		s = s[1:]
	}
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

// slow reads any JSON object with the format's fields.
func slow(line []byte, e *Entry) error {
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
	e.Line = nil
	if raw.Log != nil {
		e.Line = []byte(*raw.Log)
	}
	e.Time, e.Attrs = raw.Time, raw.Attrs
	return nil
}
