// Package lazy serves layers that are not here yet: the process gantry-lazy (docs/adr/0010-lazy-start.md).
//
//	TOC (verified by the manifest's annotation) ─► tree ─► FUSE file system, a lower directory of containers
//	a read ─► the chunk of the file ─► its bytes of the blob ─► Range request ─► <cache>/blob
//	nothing to do ─► filler ─► what is missing of the blob, until it is whole and has its digest
//
// A layer is an eStargz blob: gzip members that can be read one by one, and a table of contents (TOC) at its end. What it
// says is believed only as far as a digest proves it: the TOC by the digest that the manifest has of it, each
// chunk by the one that the TOC has, the whole by its own.
//
// The rooms: table reads and bounds the TOC, tree is the layer as a file system would have it, blob is the bytes that
// are here, chunks unpacks and verifies them, filler fetches the rest, session speaks FUSE, and server
// does what gantryd asks for (internal/lazyproto).
package lazy
