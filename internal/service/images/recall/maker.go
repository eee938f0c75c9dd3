package recall

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Maker makes blobs again that have no file.
type Maker struct {
	layers  Layers
	shelf   Shelf
	sources Sources

	mu  sync.Mutex
	all map[digest.Digest]*making
}

// NewMaker gives a Maker; sources may be nil.
func NewMaker(l Layers, s Shelf, sources Sources) *Maker {
	return &Maker{layers: l, shelf: s, sources: sources, all: map[digest.Digest]*making{}}
}

// Open gives a blob by its recipe. What is an archive is made while it is read, all else first, in a file.
func (m *Maker) Open(ctx context.Context, d ocispec.Descriptor, r Recipe) (content.ReaderAt, error) {
	if r.Plain {
		open := func() (io.ReadCloser, error) { return m.layers.Tar(context.WithoutCancel(ctx), r.DiffID) }
		first, err := open()
		if err != nil {
			return nil, lost(d, err)
		}
		return &inOrder{d: d, open: open, r: first, hash: d.Digest.Algorithm().Hash()}, nil
	}
	k := m.join(d, r)
	select {
	case <-k.done:
	case <-ctx.Done():
		m.leave(k)
		return nil, context.Cause(ctx)
	}
	if k.err != nil {
		m.leave(k)
		return nil, k.err
	}
	return &shared{making: k, leave: sync.OnceFunc(func() { m.leave(k) })}, nil
}

// ErrLost is a blob that cannot be had any more in the form in which it came.
var ErrLost = errors.New("cannot be made again")

func lost(d ocispec.Descriptor, err error) error {
	return fmt.Errorf("the layer %s is here unpacked, but its blob %w: %w", d.Digest, ErrLost, err)
}

// making is a blob that is being made, or was, for all who read it.
type making struct {
	d      ocispec.Descriptor
	cancel context.CancelFunc
	users  int // guarded by Maker.mu
	done   chan struct{}
	file   Scratch
	err    error
}

func (m *Maker) join(d ocispec.Descriptor, r Recipe) *making {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.all[d.Digest]; k != nil {
		k.users++
		return k
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &making{d: d, users: 1, cancel: cancel, done: make(chan struct{})}
	m.all[d.Digest] = k
	go func() {
		defer close(k.done)
		if k.file, k.err = m.make(ctx, d, r); k.err != nil {
			m.forget(k) // whoever comes now tries again
		}
	}()
	return k
}

func (m *Maker) forget(k *making) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all[k.d.Digest] == k {
		delete(m.all, k.d.Digest)
	}
}

// leave ends one reader's part; with the last one the file goes.
func (m *Maker) leave(k *making) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k.users--; k.users > 0 {
		return
	}
	if m.all[k.d.Digest] == k {
		delete(m.all, k.d.Digest)
	}
	k.cancel()
	go func() {
		<-k.done
		if k.file != nil {
			_ = k.file.Close()
		}
	}()
}

// make makes a blob in a file: here if that can be, or else by fetching it again.
func (m *Maker) make(ctx context.Context, d ocispec.Descriptor, r Recipe) (f Scratch, err error) {
	f, err = m.shelf.Scratch()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
			f = nil
		}
	}()
	var tries []error
	for _, how := range m.ways(r) {
		if ctx.Err() != nil {
			break
		}
		err := how(ctx, f, d, r)
		if err == nil {
			return f, nil
		}
		tries = append(tries, err, f.Reset())
	}
	if err := context.Cause(ctx); err != nil {
		return f, err
	}
	if len(tries) == 0 {
		tries = append(tries, errdefs.ErrNotFound)
	}
	return f, lost(d, errors.Join(tries...))
}

type way = func(ctx context.Context, f io.Writer, d ocispec.Descriptor, r Recipe) error

// ways are how a blob may be had, in this order: to fetch it takes less of this machine than to compress it.
func (m *Maker) ways(r Recipe) (list []way) {
	if r.Source != "" && m.sources != nil {
		list = append(list, m.fetch)
	}
	if r.Codec != nil {
		list = append(list, func(ctx context.Context, f io.Writer, d ocispec.Descriptor, r Recipe) error {
			return compress(ctx, m.layers.Tar, f, d, r)
		})
	}
	return list
}

// archiveOf opens the archive of a layer, by its diff ID.
type archiveOf = func(context.Context, digest.Digest) (io.ReadCloser, error)

// compress makes a blob of its layer's files.
func compress(ctx context.Context, open archiveOf, f io.Writer, d ocispec.Descriptor, r Recipe) error {
	tar, err := open(ctx, r.DiffID)
	if err != nil {
		return err
	}
	defer tar.Close()
	v := d.Digest.Verifier()
	if err := r.Codec.Compress(io.MultiWriter(f, v), until{ctx, tar}); err != nil {
		return err
	}
	if !v.Verified() {
		return fmt.Errorf("compressing it again as %s gives something else: %w", r.Codec, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// fetch gets a blob from where it came from.
func (m *Maker) fetch(ctx context.Context, f io.Writer, d ocispec.Descriptor, r Recipe) error {
	from, err := m.sources.Fetch(ctx, r.Source, d)
	if err != nil {
		return fmt.Errorf("fetching it again from %s: %w", r.Source, err)
	}
	defer from.Close()
	v := d.Digest.Verifier()
	if _, err := io.Copy(io.MultiWriter(f, v), io.LimitReader(from, d.Size+1)); err != nil {
		return fmt.Errorf("fetching it again from %s: %w", r.Source, err)
	}
	if !v.Verified() {
		return fmt.Errorf("%s gives something else now: %w", r.Source, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// until makes reads fail once the context has ended.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// shared is one reader of a blob that was made. It implements content.ReaderAt.
type shared struct {
	*making
	leave func()
}

func (s *shared) Size() int64 { return s.d.Size }

func (s *shared) Close() error {
	s.leave()
	return nil
}

func (s *shared) ReadAt(p []byte, off int64) (int, error) {
	if off >= s.d.Size {
		return 0, io.EOF
	}
	return s.file.ReadAt(p, off)
}

// inOrder reads a stream as a file, well if that is done from its beginning to its end, and else by reading it anew. It implements content.ReaderAt.
type inOrder struct {
	d    ocispec.Descriptor
	open func() (io.ReadCloser, error)

	mu   sync.Mutex
	r    io.ReadCloser // nil before the first read, and after an error
	at   int64
	hash hash.Hash // of what was read of r
}

func (o *inOrder) Size() int64 { return o.d.Size }

func (o *inOrder) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.end()
}

func (o *inOrder) end() error {
	if o.r == nil {
		return nil
	}
	r := o.r
	o.r = nil
	return r.Close()
}

func (o *inOrder) ReadAt(p []byte, off int64) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if off >= o.d.Size {
		return 0, io.EOF
	}
	if o.r == nil || off < o.at {
		if err := o.end(); err != nil {
			return 0, err
		}
		if o.r, err = o.open(); err != nil {
			return 0, lost(o.d, err)
		}
		o.at = 0
		o.hash.Reset()
	}
	if _, err := io.CopyN(o.hash, o.r, off-o.at); err != nil {
		return 0, o.broken(err)
	}
	o.at = off
	n, err = io.ReadFull(o.r, p[:min(int64(len(p)), o.d.Size-off)])
	o.hash.Write(p[:n])
	o.at += int64(n)
	if err != nil {
		return n, o.broken(err)
	}
	if o.at == o.d.Size && digest.NewDigest(o.d.Digest.Algorithm(), o.hash) != o.d.Digest {
		return n, o.broken(fmt.Errorf("its files have changed: %w", errdefs.ErrDataLoss))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (o *inOrder) broken(err error) error {
	return lost(o.d, errors.Join(err, o.end()))
}
