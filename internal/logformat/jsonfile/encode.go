// Package jsonfile is Docker's json-file log format: one JSON object per line, as
//
//	{"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2006-01-02T15:04:05.999999999Z"}
//
// A line of output longer than MaxLine is split into entries without line end,
// except the last. The encoder is the keeper's hot path: it allocates nothing,
// and what is the same for all lines of one chunk is formatted once.
package jsonfile

import (
	"time"
	"unicode/utf8"

	"github.com/gantry-engine/gantry/internal/spec"
)

// MaxLine is the longest piece of a line in one entry, in bytes.
const MaxLine = 16 << 10

const hexDigits = "0123456789abcdef"

// plain tells which bytes go into a JSON string as they are.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return t
}()

// AppendSuffix appends what follows an entry's text: it is the same for all
// entries of one stream and time. attrs is a JSON object or empty.
func AppendSuffix(dst []byte, stream spec.Stream, unixNano int64, attrs []byte) []byte {
	if stream == spec.Stderr {
		dst = append(dst, `","stream":"stderr"`...)
	} else {
		dst = append(dst, `","stream":"stdout"`...)
	}
	if len(attrs) > 0 {
		dst = append(dst, `,"attrs":`...)
		dst = append(dst, attrs...)
	}
	dst = append(dst, `,"time":"`...)
	dst = time.Unix(0, unixNano).UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"', '}', '\n')
}

// AppendEntry appends one entry: line as it was printed, with its line end if it has one.
func AppendEntry(dst, line, suffix []byte) []byte {
	dst = append(dst, `{"log":"`...)
	dst = appendEscaped(dst, line)
	return append(dst, suffix...)
}

func appendEscaped(dst, s []byte) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(append(dst, s[start:i]...), `\ufffd`...)
			case r == '\u2028' || r == '\u2029':
				dst = append(append(dst, s[start:i]...), `\u202`...)
				dst = append(dst, hexDigits[r&0xf])
			default:
				i += size
				continue
			}
			i += size
			start = i
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		}
		i++
		start = i
	}
	return append(dst, s[start:]...)
}
