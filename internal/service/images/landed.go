package images

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/transfer"
)

// unloading are the layers of an archive that is being read: each is written to a file, and unpacked while the archive is
// read on, before anybody knows which image it is of.
//
//	archive ─► file ─► unpacked (Stage)
//	              └─► all files of the archive are adopted in one commit
type unloading struct {
	store  *blobs
	ctx    context.Context //nolint:containedctx // of the work beside the reading, until close
	cancel context.CancelFunc
	slots  *transfer.Slots
	work   sync.WaitGroup

	all []*landed
}

// landed is one layer's file.
type landed struct {
	Arrival
	t      *transfer.Blob
	file   Landing
	staged Staged
}

func newUnloading(ctx context.Context, store *blobs) *unloading {
	u := &unloading{store: store, slots: transfer.NewSlots(max(2, runtime.NumCPU()))}
	u.ctx, u.cancel = context.WithCancel(ctx)
	return u
}

// tarMagic is where a tar header says that it is one.
const tarMagic = 257

// isLayer tells by a file's first bytes whether it may be a layer.
func isLayer(head []byte) bool {
	return detect(head) == gzipped || detect(head) == zstandard || len(head) >= tarMagic+5 && string(head[tarMagic:tarMagic+5]) == "ustar"
}

// take reads one layer. expected may be empty: then its digest is found out.
func (u *unloading) take(name string, r *bufio.Reader, expected digest.Digest, buf []byte) (d ocispec.Descriptor, err error) {
	file, err := u.store.content.Land()
	if err != nil {
		return d, diskFull(err)
	}
	l := &landed{file: file, t: transfer.Into(file)}
	u.all = append(u.all, l)
	defer func() {
		if err != nil {
			l.t.Fail(err)
		}
	}()
	if len(u.all) <= maxLayers {
		u.work.Go(func() { u.stage(l) })
	}
	hash, size := digest.SHA256.Hash(), int64(0)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			hash.Write(buf[:n])
			if _, err := l.t.Write(buf[:n]); err != nil {
				return d, diskFull(err)
			}
			size += int64(n)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return d, err
		}
	}
	d = ocispec.Descriptor{Digest: digest.NewDigest(digest.SHA256, hash), Size: size}
	if expected != "" && d.Digest != expected {
		return d, mismatch(name, expected, d.Digest)
	}
	l.Arrival = Arrival{Digest: d.Digest, Size: d.Size}
	l.t.End()
	u.work.Go(func() { _ = file.Sync() }) // so that little is left to write at the end; Adopt tells of errors
	return d, file.Named(d.Digest)
}

// stage unpacks a layer while it comes. What cannot be unpacked is told when an image asks for it.
func (u *unloading) stage(l *landed) {
	release, err := u.slots.Acquire(u.ctx)
	if err != nil {
		return
	}
	defer release()
	staged, err := u.store.layers.Stage(u.ctx, func(ctx context.Context) (io.ReadCloser, error) {
		return decompress(l.t.Reader(ctx))
	})
	if err == nil {
		l.staged = staged
	}
}

// adopt puts the files into the store.
func (u *unloading) adopt(ctx context.Context) error {
	if len(u.all) == 0 {
		return nil
	}
	var list []Arrival
	for _, l := range u.all {
		list = append(list, l.Arrival)
	}
	if err := u.store.content.Adopt(ctx, list); err != nil {
		return fmt.Errorf("storing the archive's layers: %w", diskFull(err))
	}
	return nil
}

// unpacked waits until all is unpacked, and gives it by diff ID.
func (u *unloading) unpacked() map[digest.Digest]Staged {
	u.work.Wait()
	by := map[digest.Digest]Staged{}
	for _, l := range u.all {
		if l.staged != nil {
			by[l.staged.DiffID()] = l.staged
		}
	}
	return by
}

// close ends the work, and drops what no image has.
func (u *unloading) close() {
	u.cancel()
	u.work.Wait()
	for _, l := range u.all {
		if l.staged != nil {
			l.staged.Discard()
		}
		_ = l.file.Close()
	}
}
