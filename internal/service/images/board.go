package images

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/transfer"
)

// interval is how often a client is told how far a layer is.
const interval = 100 * time.Millisecond

// board tells a client how far each layer is, in the words that Docker's clients know.
type board struct {
	out Progress

	mu    sync.Mutex
	done  map[digest.Digest]bool // of these nothing more is told
	ended bool                   // nothing more is told at all
}

// end has nothing more told: when it returns, nobody writes to the client and nobody will.
func (b *board) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
}

func newBoard(out Progress) *board { return &board{out: out, done: map[digest.Digest]bool{}} }

// step tells what happens to a layer.
func (b *board) step(d digest.Digest, status string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done[d] && !b.ended {
		b.out.Step(short(d.String()), status)
	}
}

// bytes tells how far a layer is.
func (b *board) bytes(d digest.Digest, status string, at, of int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done[d] && !b.ended {
		b.out.send(jsonstream.Message{ID: short(d.String()), Status: status, Progress: &jsonstream.Progress{Current: at, Total: of}})
	}
}

// complete tells that a layer is here, and no more of it.
func (b *board) complete(d digest.Digest) {
	b.step(d, "Pull complete")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done[d] = true
}

// follow tells of a transfer until it has ended.
func (b *board) follow(ctx context.Context, t *transfer.Blob) {
	if b.out.w == nil {
		return
	}
	go func() {
		var told transfer.Stage
		var last time.Time
		for {
			s, at, changed, err := t.State()
			if err != nil {
				return
			}
			switch {
			case s == transfer.Waiting && told != transfer.Waiting:
			case s == transfer.Waiting && last.IsZero():
				b.step(t.Desc.Digest, "Waiting")
				last = time.Now()
			case s == transfer.Downloading && time.Since(last) >= interval && at > 0:
				b.bytes(t.Desc.Digest, "Downloading", at, t.Desc.Size)
				last = time.Now()
			case s == transfer.Verifying && told != transfer.Verifying:
				b.step(t.Desc.Digest, "Verifying Checksum")
			case s == transfer.Arrived:
				b.step(t.Desc.Digest, "Download complete")
				return
			}
			told = s
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// counting tells how much of a layer was read, beginning at an offset.
func (b *board) counting(d ocispec.Descriptor, status string, offset int64, r io.Reader) io.Reader {
	return &readSoFar{b: b, d: d, status: status, at: offset, r: r}
}

type readSoFar struct {
	b      *board
	d      ocispec.Descriptor
	status string
	at     int64
	r      io.Reader
	last   time.Time
}

func (c *readSoFar) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.at += int64(n)
	if n > 0 && (time.Since(c.last) >= interval || c.at == c.d.Size) {
		c.last = time.Now()
		c.b.bytes(c.d.Digest, c.status, c.at, c.d.Size)
	}
	return n, err
}

// extracting tells how much of a layer was unpacked, once all of it is here: until then its client sees the download.
func (b *board) extracting(d ocispec.Descriptor, r *transfer.Reader) io.Reader {
	return &unpacked{b: b, d: d, r: r}
}

type unpacked struct {
	b    *board
	d    ocispec.Descriptor
	r    *transfer.Reader
	at   int64
	last time.Time
}

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	u.at += int64(n)
	if u.r.Arrived() && (time.Since(u.last) >= interval || u.at == u.d.Size) && n > 0 {
		u.last = time.Now()
		u.b.bytes(u.d.Digest, "Extracting", u.at, u.d.Size)
	}
	return n, err
}
