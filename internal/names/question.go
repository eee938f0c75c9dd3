package names

import "encoding/binary"

// Parts of the protocol, by RFC 1035 unless said otherwise.
const (
	headerSize = 12
	maxName    = 255 // bytes of a name on the wire
	maxLabel   = 63
	plainSize  = 512 // what a client takes over UDP if it says nothing (RFC 6891)
	optSize    = 11  // an OPT record without options
	pointer    = 0xC0

	flagResponse  = 1 << 15
	flagTruncated = 1 << 9
	flagRecursion = 1 << 8 // desired
	flagAvailable = 1 << 7 // recursion available
	flagChecking  = 1 << 4 // checking disabled (RFC 4035)
	opcodeMask    = 0xF << 11
	rcodeMask     = 0xF

	typeA    = 1
	typePTR  = 12
	typeAAAA = 28
	typeOPT  = 41
	typeIXFR = 251
	typeAXFR = 252

	classINET = 1
	classAny  = 255

	rcodeSuccess        = 0
	rcodeFormat         = 1
	rcodeServer         = 2
	rcodeName           = 3
	rcodeNotImplemented = 4
	rcodeRefused        = 5
	rcodeVersion        = 16 // BADVERS (RFC 6891), the lower four bits of which are in the header
)

// MaxQuestion bounds a question, in bytes: a name, a type, and room for options.
const MaxQuestion = 2048

// maxRecords is how many records a question may bring besides itself: OPT, a signature.
const maxRecords = 4

// question is a message of a client, as far as it matters here. It is used again for the next one.
type question struct {
	raw   []byte // the whole message
	end   int    // where its question section ends
	name  []byte // in lower case, labels parted by dots, without the last dot; lies in text
	exact bool   // name says it all: no label contains a dot itself
	kind  uint16
	class uint16

	edns    bool // it has an OPT record
	version uint8
	secure  bool   // its DO bit
	size    uint16 // the largest answer that the client takes over UDP

	text [maxName]byte
}

// verdict says what is to be done with a message.
type verdict uint8

const (
	fine   verdict = iota
	silent         // no question at all: an answer might start a game of tennis
	broken         // FORMERR
	alien          // NOTIMP
)

// parse looks at a message. Every byte of it may be hostile.
func (q *question) parse(raw []byte) verdict {
	q.raw, q.end, q.name, q.exact = raw, 0, nil, true
	q.edns, q.version, q.secure, q.size = false, 0, false, plainSize
	if len(raw) < headerSize {
		return silent
	}
	flags := binary.BigEndian.Uint16(raw[2:])
	if flags&flagResponse != 0 {
		return silent
	}
	if flags&opcodeMask != 0 {
		return alien
	}
	records := int(binary.BigEndian.Uint16(raw[10:]))
	if binary.BigEndian.Uint16(raw[4:]) != 1 || binary.BigEndian.Uint16(raw[6:]) != 0 || records > maxRecords || len(raw) > MaxQuestion {
		return broken
	}
	at := q.parseName(raw)
	if at < 0 || at+4 > len(raw) {
		return broken
	}
	q.kind, q.class = binary.BigEndian.Uint16(raw[at:]), binary.BigEndian.Uint16(raw[at+2:])
	end := at + 4
	if !q.parseRecords(end, int(binary.BigEndian.Uint16(raw[8:])), records) {
		return broken
	}
	q.end = end
	if q.kind == typeAXFR || q.kind == typeIXFR {
		return alien // an answer of many messages, which has no place here
	}
	return fine
}

// parseName reads the name asked for and tells where it ends, or -1. The first name of a message has nothing
// before it that a compression pointer could mean.
func (q *question) parseName(raw []byte) int {
	at, n := headerSize, 0
	for {
		if at >= len(raw) {
			return -1
		}
		size := int(raw[at])
		at++
		if size == 0 {
			q.name = q.text[:n]
			return at
		}
		if size > maxLabel || at+size > len(raw) || n+size+2 > maxName {
			return -1
		}
		if n > 0 {
			q.text[n] = '.'
			n++
		}
		for _, c := range raw[at : at+size] {
			if c == '.' {
				q.exact = false
			}
			q.text[n] = lower(c)
			n++
		}
		at += size
	}
}

// datagram is the size of the largest answer over UDP.
func (q *question) datagram() int { return min(int(q.size), MaxDatagram) }

// copy gives a question that outlives the message's buffer.
func (q *question) copy() *question {
	c := *q
	c.raw = append([]byte(nil), q.raw...)
	c.name = c.text[:len(q.name)]
	return &c
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// parseRecords walks over what follows the question and notes the OPT record.
func (q *question) parseRecords(at, authority, additional int) bool {
	if authority > maxRecords {
		return false
	}
	for i := range authority + additional {
		root := at < len(q.raw) && q.raw[at] == 0
		at = skipName(q.raw, at)
		if at < 0 || at+10 > len(q.raw) {
			return false
		}
		head := q.raw[at:]
		at += 10 + int(binary.BigEndian.Uint16(head[8:]))
		if at > len(q.raw) {
			return false
		}
		if binary.BigEndian.Uint16(head) != typeOPT {
			continue
		}
		if q.edns || !root || i < authority {
			return false
		}
		q.edns, q.version, q.secure = true, head[5], head[6]&0x80 != 0
		q.size = max(plainSize, binary.BigEndian.Uint16(head[2:]))
	}
	return true
}

// skipName gives the position behind a name, or -1. It does not follow pointers.
func skipName(raw []byte, at int) int {
	for start := at; at < len(raw) && at-start <= maxName; {
		switch size := int(raw[at]); {
		case size == 0:
			return at + 1
		case size >= pointer:
			if at+2 > len(raw) {
				return -1
			}
			return at + 2
		case size > maxLabel:
			return -1
		default:
			at += 1 + size
		}
	}
	return -1
}
