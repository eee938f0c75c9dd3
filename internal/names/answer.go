package names

import (
	"encoding/binary"
	"net/netip"
)

// TTL is how long clients may remember a name of ours, in seconds.
const TTL = 600

// MaxDatagram bounds an answer over UDP, in bytes, whatever a client says it takes.
const MaxDatagram = 4096

// answer is a message being written into a buffer that the caller gives, without allocating.
type answer struct {
	out   []byte
	limit int // bytes that records may fill; OPT has its place behind
	count uint16
	cut   bool
}

// begin writes the head of an answer to q with the question as it was asked, or without it if it could not be read.
func (a *answer) begin(q *question, out []byte, limit int) {
	n := max(q.end, headerSize)
	a.out, a.limit, a.count, a.cut = append(out[:0], q.raw[:n]...), min(limit, cap(out)), 0, false
	if q.edns {
		a.limit -= optSize
	}
	clear(a.out[4:headerSize])
	if q.end > 0 {
		a.out[5] = 1
	}
}

// address adds an A or AAAA record.
func (a *answer) address(kind uint16, ip netip.Addr) {
	if ip.Is4() {
		b := ip.As4()
		a.record(kind, b[:])
	} else {
		b := ip.As16()
		a.record(kind, b[:])
	}
}

// record adds a record of the name that was asked for. What does not fit is left out, and the answer says so.
func (a *answer) record(kind uint16, data []byte) {
	if a.cut || len(a.out)+12+len(data) > a.limit {
		a.cut = true
		return
	}
	a.out = append(a.out, pointer, headerSize, byte(kind>>8), byte(kind), 0, classINET, 0, 0, TTL>>8, TTL&0xFF, byte(len(data)>>8), byte(len(data)))
	a.out = append(a.out, data...)
	a.count++
}

// end completes the message.
func (a *answer) end(q *question, rcode int) []byte {
	flags := binary.BigEndian.Uint16(q.raw[2:])&(opcodeMask|flagRecursion|flagChecking) | flagResponse | flagAvailable | uint16(rcode&rcodeMask)
	if a.cut {
		flags |= flagTruncated
	}
	binary.BigEndian.PutUint16(a.out[2:], flags)
	binary.BigEndian.PutUint16(a.out[6:], a.count)
	if q.edns {
		a.out = appendOPT(a.out, q, rcode)
		a.out[11] = 1
	}
	return a.out
}

func appendOPT(out []byte, q *question, rcode int) []byte {
	var do byte
	if q.secure {
		do = 0x80
	}
	return append(out, 0, 0, typeOPT, MaxDatagram>>8, MaxDatagram&0xFF, byte(rcode>>4), 0, do, 0, 0, 0)
}

// refuse answers with nothing but a code.
func refuse(q *question, out []byte, rcode int) []byte {
	var a answer
	a.begin(q, out, plainSize)
	return a.end(q, rcode)
}

// relay makes what an upstream server said into the answer to q: with q's number and spelling, and within limit.
// said has been matched with the question, so it begins like q.
func relay(q *question, said []byte, limit int) []byte {
	if binary.BigEndian.Uint16(said[4:]) == 0 { // a code without the question
		return refuse(q, make([]byte, 0, len(q.raw)+optSize), int(said[3]&rcodeMask))
	}
	out := said
	if len(said) > limit {
		var a answer
		a.begin(q, make([]byte, 0, q.end+optSize), limit)
		a.cut = true
		out = a.end(q, int(said[3]&rcodeMask))
		out[2] |= said[2] & 0x04 // authoritative
		out[3] = said[3]
		return out
	}
	copy(out, q.raw[:2])
	copy(out[headerSize:q.end], q.raw[headerSize:q.end])
	return out
}

// answers tells whether said is an answer to the question asked: of the same number, about the same name, type and
// class. Servers that cannot or do not want to may leave the question out.
func answers(said, asked []byte, end int) bool {
	if len(said) < headerSize || said[0] != asked[0] || said[1] != asked[1] {
		return false
	}
	flags := binary.BigEndian.Uint16(said[2:])
	if flags&flagResponse == 0 || flags&opcodeMask != 0 {
		return false
	}
	if binary.BigEndian.Uint16(said[4:]) == 0 {
		return flags&rcodeMask != rcodeSuccess && flags&rcodeMask != rcodeName
	}
	if binary.BigEndian.Uint16(said[4:]) != 1 || len(said) < end {
		return false
	}
	for i := headerSize; i < end-4; i++ {
		if lower(said[i]) != lower(asked[i]) {
			return false
		}
	}
	return string(said[end-4:end]) == string(asked[end-4:end])
}
