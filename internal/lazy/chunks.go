package lazy

import (
	"container/list"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
)

// cacheSize bounds the unpacked chunks in memory, in bytes: a reader comes for a chunk in pieces of 128 kB and less.
// What was read is in the kernel's page cache.
const cacheSize = 24 << 20

// chunks unpacks and verifies chunks of all layers.
type chunks struct {
	traffic *traffic
	turns   chan struct{} // bounds how many are unpacked at once

	mu    sync.Mutex
	all   map[chunkKey]*unpacked
	order *list.List // of *unpacked, the last used first
	used  int64
}

type chunkKey struct {
	blob  *blob
	start int64
	inner int64
}

type unpacked struct {
	key   chunkKey
	ready chan struct{}
	data  []byte
	err   error
	place *list.Element // nil until it is ready
}

func newChunks(t *traffic) *chunks {
	return &chunks{traffic: t, turns: make(chan struct{}, runtime.NumCPU()), all: map[chunkKey]*unpacked{}, order: list.New()}
}

// get gives a chunk's content, which nobody may change.
func (cs *chunks) get(ctx context.Context, b *blob, c chunk) ([]byte, error) {
	key := chunkKey{b, c.start, c.inner}
	cs.mu.Lock()
	u := cs.all[key]
	if u == nil {
		u = &unpacked{key: key, ready: make(chan struct{})}
		cs.all[key] = u
		go cs.fill(u, b, c) // goes on when who asks first is gone
	} else if u.place != nil {
		cs.order.MoveToFront(u.place)
	}
	cs.mu.Unlock()
	select {
	case <-u.ready:
		return u.data, u.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (cs *chunks) fill(u *unpacked, b *blob, c chunk) {
	u.data, u.err = cs.unpack(b, c)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	close(u.ready)
	if u.err != nil {
		delete(cs.all, u.key) // the next one tries anew
		return
	}
	u.place = cs.order.PushFront(u)
	cs.used += int64(len(u.data))
	for cs.used > cacheSize && cs.order.Len() > 1 {
		cs.evict(cs.order.Back())
	}
}

// evict drops a chunk. The caller holds mu.
func (cs *chunks) evict(e *list.Element) {
	u := cs.order.Remove(e).(*unpacked)
	cs.used -= int64(len(u.data))
	delete(cs.all, u.key)
}

// forget drops what is of a blob.
func (cs *chunks) forget(b *blob) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for e := cs.order.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*unpacked).key.blob == b {
			cs.evict(e)
		}
		e = next
	}
}

// unpack gets a chunk's bytes here, and what they unpack to. Bytes that are wrong are fetched once more.
func (cs *chunks) unpack(b *blob, c chunk) ([]byte, error) {
	for try := 0; ; try++ {
		if err := cs.demand(b, c); err != nil {
			return nil, err
		}
		cs.turns <- struct{}{}
		data, err := b.unpack(c)
		<-cs.turns
		if err == nil || try > 0 {
			return data, err
		}
		if err := b.forget(c.start, c.end); err != nil {
			return nil, err
		}
	}
}

// demand waits for a chunk's bytes, before what is fetched in the background.
func (cs *chunks) demand(b *blob, c chunk) error {
	if b.covers(c.start, c.end) {
		return nil
	}
	defer cs.traffic.read()()
	return b.ensure(b.ctx, c.start, c.end)
}

var gzips sync.Pool

// unpack reads a chunk that is here, and compares it with its digest.
func (b *blob) unpack(c chunk) ([]byte, error) {
	data := make([]byte, c.size)
	if err := b.inflate(c, data); err != nil {
		return nil, fmt.Errorf("the chunk at byte %d of the layer: %w: %w", c.start, err, errdefs.ErrDataLoss)
	}
	if got := digest.FromBytes(data); got != c.digest {
		return nil, fmt.Errorf("the chunk at byte %d of the layer has the digest %s, its table of contents says %s: %w", c.start, got, c.digest, errdefs.ErrDataLoss)
	}
	return data, nil
}

func (b *blob) inflate(c chunk, into []byte) error {
	in := io.NewSectionReader(b.file, c.start, c.end-c.start)
	z, _ := gzips.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	defer gzips.Put(z)
	if err := z.Reset(in); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, z, c.inner); err != nil {
		return err
	}
	_, err := io.ReadFull(z, into)
	return err
}

// read reads from a file at an offset; fewer bytes than asked for only at its end.
func (cs *chunks) read(ctx context.Context, b *blob, n *node, p []byte, off int64) (int, error) {
	done := 0
	for _, c := range n.chunks {
		if c.at+c.size <= off {
			continue
		}
		if done == len(p) {
			break
		}
		data, err := cs.get(ctx, b, c)
		if err != nil {
			return done, err
		}
		k := copy(p[done:], data[off-c.at:])
		done += k
		off += int64(k)
	}
	return done, nil
}
