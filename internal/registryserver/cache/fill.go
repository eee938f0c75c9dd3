package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/registryserver/protocol"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// Stat implements protocol.Source. A blob that a manifest here speaks of is there, at its registry.
func (c *Cache) Stat(ctx context.Context, repo string, d digest.Digest) (storage.Blob, error) {
	r, _ := c.of(repo)
	if r == nil {
		return c.Local.Stat(ctx, repo, d)
	}
	b, err := c.Content.Blob(repo, d)
	if err == nil {
		return b, nil
	}
	ref, err := c.Records.Reference(repo, d)
	return storage.Blob{Digest: d, Size: ref.Size}, err
}

// Open implements protocol.Source. A blob that is not here is read while it comes; it goes on coming when the reader leaves.
func (c *Cache) Open(ctx context.Context, repo string, d digest.Digest) (protocol.Content, storage.Blob, error) {
	r, name := c.of(repo)
	if r == nil {
		return c.Local.Open(ctx, repo, d)
	}
	if f, b, err := c.Content.Open(repo, d); err == nil {
		c.hit("blob", repo, d)
		return f, b, nil
	} else if !refusal.BlobUnknown.Is(err) {
		return nil, b, err
	}
	ref, err := c.Records.Reference(repo, d)
	if err != nil {
		return nil, storage.Blob{}, err
	}
	b := storage.Blob{Digest: d, Size: ref.Size}
	for range 2 { // the second time it came whole between two looks
		f, err := c.join(r, repo, name, ocispec.Descriptor{MediaType: ref.MediaType, Digest: d, Size: ref.Size})
		if err != nil {
			return nil, b, err
		}
		follower, err := f.follow(ctx)
		if err == nil {
			return follower, b, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, b, refuse(r, err, refusal.BlobUnknown)
		}
		if file, b, err := c.Content.Open(repo, d); err == nil {
			return file, b, nil
		}
	}
	return nil, b, refusal.BlobUnknown.New("%s of %s came and went", d, repo)
}

// fill is a blob on its way from its registry into the store.
type fill struct {
	u    *storage.Upload
	size int64

	mu    sync.Mutex
	more  chan struct{} // closed, and made anew, when something came
	done  bool          // all is here, and is what its digest says
	err   error
	ended chan struct{}
}

// join takes part in a blob's way, and begins it if nobody has.
func (c *Cache) join(r *Registry, repo, name string, d ocispec.Descriptor) (*fill, error) {
	key := repo + "@" + d.Digest.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.fills[key]; f != nil {
		return f, nil
	}
	u, err := c.Content.Begin(repo, d.Digest.Algorithm())
	if err != nil {
		return nil, err
	}
	f := &fill{u: u, size: d.Size, more: make(chan struct{}), ended: make(chan struct{})}
	c.fills[key] = f
	c.Counter.Cache("blob", "miss")
	c.behind.Go(func() {
		c.room(d.Size)
		err := f.run(c.ctx, r.Upstream, name, d)
		c.mu.Lock()
		delete(c.fills, key)
		c.mu.Unlock()
		if err != nil && c.ctx.Err() == nil {
			c.Counter.Cache("blob", "failed")
			c.Log.Warn("a blob could not be fetched", "registry", r.Host, "repository", repo, "digest", d.Digest, "error", err)
		}
		f.end(err)
	})
	return f, nil
}

// run fetches the blob into its upload, and commits it.
func (f *fill) run(ctx context.Context, up Upstream, name string, d ocispec.Descriptor) error {
	_, release, err := f.u.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	body, err := up.Fetch(ctx, name, d)
	if err != nil {
		return errors.Join(err, f.u.Cancel())
	}
	defer body.Close()
	if _, err := f.u.Append(io.LimitReader(told{body, f}, d.Size+1)); err != nil {
		return errors.Join(err, f.u.Cancel())
	}
	if n := f.u.Size(); n != d.Size {
		return errors.Join(fmt.Errorf("%d bytes came, %d were said", n, d.Size), f.u.Cancel())
	}
	_, err = f.u.Commit(d.Digest)
	return err
}

// told tells the followers that what was read before has been written: the upload asks for more only then.
type told struct {
	io.Reader
	f *fill
}

func (t told) Read(b []byte) (int, error) {
	t.f.tell()
	return t.Reader.Read(b)
}

func (f *fill) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.more)
	f.more = make(chan struct{})
}

func (f *fill) end(err error) {
	f.mu.Lock()
	f.done, f.err = err == nil, err
	f.mu.Unlock()
	close(f.ended)
	f.tell()
}

// state tells how much may be read, and what to wait for where that is not enough. The last byte waits for the digest: nobody
// is to believe that he has the whole of something that is wrong.
func (f *fill) state() (ready int64, more <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return f.size, f.more, nil
	}
	return min(f.u.Size(), f.size-1), f.more, f.err
}

// follow gives a reader of what comes, once the first byte has.
func (f *fill) follow(ctx context.Context) (*follower, error) {
	file, err := f.u.Reader()
	if err != nil {
		return nil, err
	}
	r := &follower{f: f, ctx: ctx, file: file}
	if err := r.wait(1); err != nil {
		_ = file.Close()
		return nil, err
	}
	return r, nil
}

// follower reads a blob while it comes.
type follower struct {
	f    *fill
	ctx  context.Context
	file *os.File
	at   int64
}

// wait waits until n bytes may be read, or all.
func (r *follower) wait(n int64) error {
	for {
		ready, more, err := r.f.state()
		switch {
		case ready >= min(n, r.f.size):
			return nil
		case err != nil:
			return err
		}
		select {
		case <-more:
		case <-r.f.ended:
			if ready, _, err := r.f.state(); err != nil && ready < min(n, r.f.size) {
				return err
			}
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
}

func (r *follower) Read(b []byte) (int, error) {
	if r.at >= r.f.size {
		return 0, io.EOF
	}
	if err := r.wait(r.at + 1); err != nil {
		return 0, err
	}
	ready, _, _ := r.f.state()
	n, err := r.file.ReadAt(b[:min(int64(len(b)), ready-r.at)], r.at)
	r.at += int64(n)
	return n, err
}

// Seek implements io.Seeker; the size is known from the manifest.
func (r *follower) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.f.size
	}
	if offset < 0 {
		return 0, errors.New("seeking before the beginning")
	}
	r.at = offset
	return offset, nil
}

func (r *follower) Close() error { return r.file.Close() }
