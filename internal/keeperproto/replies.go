package keeperproto

import (
	"time"

	"github.com/gantry-engine/gantry/internal/spec"
)

// WatchFromNow as a position asks for output that comes after the request.
const WatchFromNow = ^uint64(0)

// Watch asks to be told of a process's output and to have it kept from Pos on.
// The reply brings spool and slot as descriptors.
type Watch struct {
	Key spec.ProcessKey
	ID  uint32 // chosen by the client, unique in its connection
	Pos uint64
	Gen uint64 // 0, or the launch that is meant: another one under the same key is not found
}

// Encode gives the payload.
func (m Watch) Encode() []byte {
	var e enc
	e.key(m.Key)
	e.u32(m.ID)
	e.u64(m.Pos)
	e.u64(m.Gen)
	return e.b
}

// DecodeWatch reads the payload.
func DecodeWatch(b []byte) (m Watch, err error) {
	d := dec{b: b}
	m.Key = d.key()
	m.ID = d.u32()
	m.Pos = d.u64()
	m.Gen = d.u64()
	return m, d.end()
}

// WatchReply tells where reading begins.
type WatchReply struct {
	Pos uint64
	Gen uint64
}

// Encode gives the payload.
func (m WatchReply) Encode() []byte {
	var e enc
	e.u64(m.Pos)
	e.u64(m.Gen)
	return e.b
}

// DecodeWatchReply reads the payload.
func DecodeWatchReply(b []byte) (m WatchReply, err error) {
	d := dec{b: b}
	m.Pos = d.u64()
	m.Gen = d.u64()
	return m, d.end()
}

// Ack says that a watch has consumed everything before Pos. Grew (Pos is the
// spool's tail) and Unwatch have the same shape.
type Ack struct {
	ID  uint32
	Pos uint64
}

// Encode gives the payload.
func (m Ack) Encode() []byte {
	var e enc
	e.u32(m.ID)
	e.u64(m.Pos)
	return e.b
}

// DecodeAck reads the payload.
func DecodeAck(b []byte) (m Ack, err error) {
	d := dec{b: b}
	m.ID = d.u32()
	m.Pos = d.u64()
	return m, d.end()
}

// Entry is one process in the answer to List.
type Entry struct {
	Key     spec.ProcessKey
	PID     int32
	Started int64 // Unix time, nanoseconds
	Gen     uint64
	Alive   bool
	Note    []byte // the launch's
}

// List is the answer to TypeList.
type List struct{ Entries []Entry }

// Encode gives the payload.
func (m List) Encode() []byte {
	var e enc
	e.u32(uint32(len(m.Entries)))
	for _, x := range m.Entries {
		e.key(x.Key)
		e.i32(x.PID)
		e.i64(x.Started)
		e.u64(x.Gen)
		e.bool(x.Alive)
		e.bytes(x.Note)
	}
	return e.b
}

// DecodeList reads the payload.
func DecodeList(b []byte) (m List, err error) {
	d := dec{b: b}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		m.Entries = append(m.Entries, Entry{
			Key: d.key(), PID: d.i32(), Started: d.i64(), Gen: d.u64(), Alive: d.bool(), Note: d.bytes(),
		})
	}
	return m, d.end()
}

// Exited is an exit record: an event, and the content of the exit file.
type Exited struct {
	Gen  uint64
	PID  int32
	Exit spec.Exit
}

// Encode gives the payload.
func (m Exited) Encode() []byte {
	var e enc
	e.key(m.Exit.Key)
	e.u64(m.Gen)
	e.i32(m.PID)
	e.i32(int32(m.Exit.Code))
	e.i32(int32(m.Exit.Signal))
	e.i64(m.Exit.Time.UnixNano())
	e.bool(m.Exit.Unknown)
	e.bool(m.Exit.OOM)
	return e.b
}

// DecodeExited reads the payload.
func DecodeExited(b []byte) (m Exited, err error) {
	d := dec{b: b}
	m.Exit.Key = d.key()
	m.Gen = d.u64()
	m.PID = d.i32()
	m.Exit.Code = int(d.i32())
	m.Exit.Signal = int(d.i32())
	m.Exit.Time = time.Unix(0, d.i64())
	m.Exit.Unknown = d.bool()
	m.Exit.OOM = d.bool()
	return m, d.end()
}

// Class of an error, the closed set that crosses the border.
type Class uint8

// The classes. They map to containerd/errdefs one to one.
const (
	ClassUnknown       Class = 0
	ClassNotFound      Class = 1
	ClassAlreadyExists Class = 2
	ClassInvalid       Class = 3
	ClassUnavailable   Class = 4
	ClassExhausted     Class = 5
	ClassPrecondition  Class = 6
	ClassLaunch        Class = 7 // Stage, Path, Errno say where
	ClassUnimplemented Class = 8
)

// Error is a failed request.
type Error struct {
	Class Class
	Text  string
	Stage string
	Path  string
	Errno int32
}

func (m Error) Error() string { return m.Text }

// Encode gives the payload.
func (m Error) Encode() []byte {
	var e enc
	e.u8(uint8(m.Class))
	e.str(m.Text)
	e.str(m.Stage)
	e.str(m.Path)
	e.i32(m.Errno)
	return e.b
}

// DecodeError reads the payload.
func DecodeError(b []byte) (m Error, err error) {
	d := dec{b: b}
	m.Class = Class(d.u8())
	m.Text = d.str()
	m.Stage = d.str()
	m.Path = d.str()
	m.Errno = d.i32()
	return m, d.end()
}

// FDKind says what a held descriptor is.
type FDKind uint8

// What the anchor holds for a process.
const (
	FDPid      FDKind = 1 // pidfd
	FDStdout   FDKind = 2 // FIFO of standard output (a terminal's intermediate one too)
	FDStderr   FDKind = 3
	FDStdin    FDKind = 4 // write end of standard input
	FDTerminal FDKind = 5 // master
	FDMountNS  FDKind = 6
)

// Hold gives the anchor descriptors to keep (Hold, before the process runs) or
// gives them back to a new keeper (Held). Kinds names the message's descriptors in order.
// Drop and Retire use Name and PID only.
type Hold struct {
	Name  string // the process's folder below the exec root
	Gen   uint64
	PID   int32
	Kinds []FDKind
}

// Encode gives the payload.
func (m Hold) Encode() []byte {
	var e enc
	e.str(m.Name)
	e.u64(m.Gen)
	e.i32(m.PID)
	e.u32(uint32(len(m.Kinds)))
	for _, k := range m.Kinds {
		e.u8(uint8(k))
	}
	return e.b
}

// DecodeHold reads the payload.
func DecodeHold(b []byte) (m Hold, err error) {
	d := dec{b: b}
	m.Name = d.str()
	m.Gen = d.u64()
	m.PID = d.i32()
	for n := d.count(); n > 0 && d.err == nil; n-- {
		m.Kinds = append(m.Kinds, FDKind(d.u8()))
	}
	return m, d.end()
}

// Orphan is a process that the anchor reaped because the keeper that had made it
// is gone. Its exit record is on disk already.
type Orphan struct {
	Name string
	PID  int32
}

// Encode gives the payload.
func (m Orphan) Encode() []byte {
	var e enc
	e.str(m.Name)
	e.i32(m.PID)
	return e.b
}

// DecodeOrphan reads the payload.
func DecodeOrphan(b []byte) (m Orphan, err error) {
	d := dec{b: b}
	m.Name = d.str()
	m.PID = d.i32()
	return m, d.end()
}
