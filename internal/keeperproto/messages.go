package keeperproto

import (
	"fmt"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Type says what a message's payload is.
type Type uint8

// Message types. Requests first, then replies, events, and the anchor's.
const (
	TypeHello      Type = 1
	TypeLaunch     Type = 2
	TypeSignal     Type = 3
	TypeResize     Type = 4
	TypeHandle     Type = 5
	TypeCloseStdin Type = 6
	TypeWatch      Type = 7
	TypeAck        Type = 8 // no reply
	TypeUnwatch    Type = 9 // no reply
	TypeList       Type = 10
	TypeForget     Type = 11
	TypeUpgrade    Type = 13
	TypeStop       Type = 14
	TypeSubscribe  Type = 15 // exits, from now on and all not yet forgotten
	TypeResumed    Type = 16 // every watch of a former connection is in place again

	TypeOK    Type = 64
	TypeError Type = 65

	TypeExited Type = 96
	TypeGrew   Type = 97

	TypeHold       Type = 128 // keeper → anchor
	TypeDrop       Type = 129 // keeper → anchor
	TypeAnchorStop Type = 130 // keeper → anchor: nothing is left, end when I end
	TypeHeld       Type = 131 // anchor → keeper, at start
	TypeHeldEnd    Type = 132 // anchor → keeper, at start
	TypeOrphan     Type = 133 // anchor → keeper: reaped a process that the keeper knows
	TypeRetire     Type = 134 // keeper → anchor: the descriptors of a key are of no use any more (it ended)
	TypeEcho       Type = 135 // keeper → anchor and back: everything before it has arrived
)

func (e *enc) key(k spec.ProcessKey) { e.str(k.Container); e.str(k.Exec) }
func (d *dec) key() spec.ProcessKey {
	return spec.ProcessKey{Container: d.str(), Exec: d.str()}
}

// Hello opens a connection.
type Hello struct {
	Version uint32
	Build   string // the client's version, for the keeper's log
}

// Encode gives the payload.
func (m Hello) Encode() []byte {
	var e enc
	e.u32(m.Version)
	e.str(m.Build)
	return e.b
}

// DecodeHello reads the payload.
func DecodeHello(b []byte) (m Hello, err error) {
	d := dec{b: b}
	m.Version = d.u32()
	m.Build = d.str()
	return m, d.end()
}

// HelloReply is the keeper's answer.
type HelloReply struct {
	Version uint32
	PID     int32
	Build   string
}

// Encode gives the payload.
func (m HelloReply) Encode() []byte {
	var e enc
	e.u32(m.Version)
	e.i32(m.PID)
	e.str(m.Build)
	return e.b
}

// DecodeHelloReply reads the payload.
func DecodeHelloReply(b []byte) (m HelloReply, err error) {
	d := dec{b: b}
	m.Version = d.u32()
	m.PID = d.i32()
	m.Build = d.str()
	return m, d.end()
}

// LogDriver selects a writer in the keeper.
type LogDriver uint8

// The log writers.
const (
	LogNone  LogDriver = 0
	LogJSON  LogDriver = 1
	LogLocal LogDriver = 2
)

// Log is a log configuration with everything decided: the keeper parses no options.
type Log struct {
	Driver      LogDriver
	Path        string
	MaxSize     int64 // bytes; 0 is without bound
	MaxFile     int32 // files in all, the current one included
	Compress    bool  // rotated files are gzip'd
	NonBlocking bool  // drop rather than hold the container back when the disk is slow
	MaxBuffer   int64 // bytes that may wait for the disk when NonBlocking
	Attrs       []byte
}

func (e *enc) log(l Log) {
	e.u8(uint8(l.Driver))
	e.str(l.Path)
	e.i64(l.MaxSize)
	e.i32(l.MaxFile)
	e.bool(l.Compress)
	e.bool(l.NonBlocking)
	e.i64(l.MaxBuffer)
	e.bytes(l.Attrs)
}

func (d *dec) log() (l Log) {
	l.Driver = LogDriver(d.u8())
	l.Path = d.str()
	l.MaxSize = d.i64()
	l.MaxFile = d.i32()
	l.Compress = d.bool()
	l.NonBlocking = d.bool()
	l.MaxBuffer = d.i64()
	l.Attrs = d.bytes()
	if d.err == nil && l.Driver > LogLocal {
		d.err = fmt.Errorf("%w: log driver %d", ErrMalformed, l.Driver)
	}
	return l
}

// Join asks for a namespace of another process that the keeper looks after.
type Join struct {
	Kind string // as in /proc/PID/ns
	Key  spec.ProcessKey
}

// Launch asks for a process. The message's descriptors are handed to the
// spawner in order (the network namespace and whatever else Facts count on).
type Launch struct {
	Key      spec.ProcessKey
	Program  []byte // gantry-init's program, opaque to the keeper
	Facts    []byte // what is needed at clone time, opaque to the keeper
	Terminal bool
	Stdin    bool
	Log      Log
	OOMFile  string // the cgroup's memory.events or memory.oom_control, or empty
	Join     []Join
	Watches  []uint32 // watches to be in place before the first byte
	Note     []byte   // opaque; Entry gives it back
}

// Encode gives the payload.
func (m Launch) Encode() []byte {
	e := enc{b: make([]byte, 0, len(m.Program)+len(m.Facts)+1024)}
	e.key(m.Key)
	e.bytes(m.Program)
	e.bytes(m.Facts)
	e.bool(m.Terminal)
	e.bool(m.Stdin)
	e.log(m.Log)
	e.str(m.OOMFile)
	e.u32(uint32(len(m.Join)))
	for _, j := range m.Join {
		e.str(j.Kind)
		e.key(j.Key)
	}
	e.u32(uint32(len(m.Watches)))
	for _, w := range m.Watches {
		e.u32(w)
	}
	e.bytes(m.Note)
	return e.b
}

// DecodeLaunch reads the payload.
func DecodeLaunch(b []byte) (m Launch, err error) {
	d := dec{b: b}
	m.Key = d.key()
	m.Program = d.bytes()
	m.Facts = d.bytes()
	m.Terminal = d.bool()
	m.Stdin = d.bool()
	m.Log = d.log()
	m.OOMFile = d.str()
	for n := d.count(); n > 0 && d.err == nil; n-- {
		m.Join = append(m.Join, Join{Kind: d.str(), Key: d.key()})
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		m.Watches = append(m.Watches, d.u32())
	}
	m.Note = d.bytes()
	return m, d.end()
}

// LaunchReply tells of a process that runs. With watches it brings two
// descriptors: spool and slot.
type LaunchReply struct {
	PID     int32
	Started int64 // Unix time, nanoseconds
	Gen     uint64
}

// Encode gives the payload.
func (m LaunchReply) Encode() []byte {
	var e enc
	e.i32(m.PID)
	e.i64(m.Started)
	e.u64(m.Gen)
	return e.b
}

// DecodeLaunchReply reads the payload.
func DecodeLaunchReply(b []byte) (m LaunchReply, err error) {
	d := dec{b: b}
	m.PID = d.i32()
	m.Started = d.i64()
	m.Gen = d.u64()
	return m, d.end()
}

// KeyRequest is a request about one process: Signal (A is the number), Resize (A height,
// B width), Handle (Name), CloseStdin, Forget; Upgrade uses Name for the new binary's path.
type KeyRequest struct {
	Key  spec.ProcessKey
	Name string
	A, B int32
}

// Encode gives the payload.
func (m KeyRequest) Encode() []byte {
	var e enc
	e.key(m.Key)
	e.str(m.Name)
	e.i32(m.A)
	e.i32(m.B)
	return e.b
}

// DecodeKeyRequest reads the payload.
func DecodeKeyRequest(b []byte) (m KeyRequest, err error) {
	d := dec{b: b}
	m.Key = d.key()
	m.Name = d.str()
	m.A = d.i32()
	m.B = d.i32()
	return m, d.end()
}
