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

// Decoder reads entries. Its zero value is ready. It remembers how the last entry
// ended: entries of one moment differ only in their text, and then nothing but
// the text has to be looked at.
type Decoder struct {
	end    []byte // from the text's closing quote to the line end
	stream spec.Stream
	time   time.Time
	attrs  map[string]string
	whole  [wholeSeconds]byte // the last stamp's whole seconds as text,
	second time.Time          // and as what they mean
}

const (
	textKey   = `{"log":"`
	stdoutKey = `","stream":"stdout"`
	stderrKey = `","stream":"stderr"`
	attrsKey  = `,"attrs":`
	timeKey   = `,"time":"`
)

// Next reads the entry that b begins with and gives the size of its line, line end
// included; 0 means that b ends before the line does. On an error the line is none of
// ours, and size tells where the next one begins. b is overwritten: texts are
// unescaped in place, and stay valid as long as b does.
func (d *Decoder) Next(b []byte, e *spec.LogEntry) (size int, err error) {
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

func (d *Decoder) fill(e *spec.LogEntry, text []byte) {
	e.Stream, e.Time, e.Line, e.Attrs = d.stream, d.time, text, d.attrs
}

// Decode reads one line of a log file, with or without its line end. It overwrites line, as Next does.
func (d *Decoder) Decode(line []byte, e *spec.LogEntry) error {
	if d.fast(line, e) {
		return nil
	}
	return slow(line, e)
}

// fast reads what this package and Docker write. Anything unexpected is left to
// the general decoder; line is untouched then.
func (d *Decoder) fast(line []byte, e *spec.LogEntry) bool {
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
	stream := spec.Stdout
	rest, ok := bytes.CutPrefix(s, []byte(stdoutKey))
	if !ok {
		if rest, ok = bytes.CutPrefix(s, []byte(stderrKey)); !ok {
			return false
		}
		stream = spec.Stderr
	}
	rest, ok = bytes.CutSuffix(rest, []byte(`"}`))
	if !ok {
		return false
	}
	var attrs map[string]string
	stamp, ok := bytes.CutPrefix(rest, []byte(timeKey))
	if !ok {
		i := bytes.LastIndex(rest, []byte(timeKey))
		object, ok := bytes.CutPrefix(rest[:max(i, 0)], []byte(attrsKey))
		if !ok || json.Unmarshal(object, &attrs) != nil {
			return false
		}
		stamp = rest[i+len(timeKey):]
	}
	t, ok := d.parseTime(stamp)
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

// wholeSeconds is the size of a stamp up to its fraction: "2006-01-02T15:04:05".
const wholeSeconds = 19

// parseTime reads RFC 3339 in UTC ("…Z"), the only form that is written. Most
// stamps are of the same second as the one before.
func (d *Decoder) parseTime(s []byte) (time.Time, bool) {
	if len(s) < wholeSeconds+1 || s[len(s)-1] != 'Z' {
		return time.Time{}, false
	}
	if whole := s[:wholeSeconds]; string(whole) != string(d.whole[:]) {
		t, err := time.Parse("2006-01-02T15:04:05", string(whole))
		if err != nil {
			return time.Time{}, false
		}
		copy(d.whole[:], whole)
		d.second = t
	}
	frac := s[wholeSeconds : len(s)-1]
	if len(frac) == 0 {
		return d.second, true
	}
	if frac[0] != '.' || len(frac) > 10 || len(frac) < 2 {
		return time.Time{}, false
	}
	nano := 0
	for _, c := range frac[1:] {
		if c < '0' || c > '9' {
			return time.Time{}, false
		}
		nano = nano*10 + int(c-'0')
	}
	for i := len(frac) - 1; i < 9; i++ {
		nano *= 10
	}
	return d.second.Add(time.Duration(nano)), true
}

// slow reads any JSON object with the format's fields.
func slow(line []byte, e *spec.LogEntry) error {
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
