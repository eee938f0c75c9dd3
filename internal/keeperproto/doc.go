// Package keeperproto is what gantryd, the keeper and the anchor say to each
// other: messages, their encoding, framing with descriptors, and the layout of
// the files below the exec root that more than one of them reads. It holds no
// behaviour.
//
//	gantryd                      keeper                          anchor
//	   │   stream socket            │   seqpacket socket pair       │
//	   │ Hello{version} ──────────► │ ◄──────────────── starts it ──┤
//	   │ ◄────────────── HelloReply │ ◄── Held{key, fds…} … HeldEnd │  what a former keeper left
//	   │                            │                               │
//	   │ Launch{program, fds…} ───► │ clones the process            │
//	   │                            │ Hold{key, pid, fds…} ───────► │  before the process may go on
//	   │ ◄─────── LaunchReply{pid…} │ lets it go                    │
//	   │ Watch{key, pos} ─────────► │                               │
//	   │ ◄ WatchReply{spool, slot}  │                               │
//	   │ ◄───────────────── Grew{…} │ output was appended           │
//	   │ reads the spool, Ack{pos}► │                               │
//	   │                            │ exit seen: record, reap       │
//	   │ ◄─────────────── Exited{…} │                               │
//	   │ Forget{key} ─────────────► │ Drop{key} ──────────────────► │
//	   │                            │                               │
//	   │                            X killed                        │  takes its children over,
//	   │ reconnects                 ┌─ next keeper ◄──── starts it ─┤  reaps, writes exit records
//	   │ Watch{key, old pos} ─────► │ ◄── Held…, Orphan{pid, status}│
//
// Every message is a header of 12 bytes and a payload:
//
//	[payload length 4][type 1][0][descriptors 2][request id 4][payload …]
//
// Numbers are big-endian. Descriptors travel by SCM_RIGHTS with the header's
// bytes. A reply carries its request's id; events carry id 0. Nothing is
// trusted: lengths, counts and descriptors are bounded before use.
package keeperproto
