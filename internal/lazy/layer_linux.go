package lazy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/stargz-snapshotter/estargz"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/lazyproto"
)

// tail is how much of a blob's end is fetched at first: the footer, and most tables of contents.
const tail = 4 * block

// shared is what all layers of a process have in common.
type shared struct {
	chunks  *chunks
	traffic *traffic
	tell    func(lazyproto.Answer) // events
}

func newShared(tell func(lazyproto.Answer)) *shared {
	t := newTraffic()
	return &shared{chunks: newChunks(t), traffic: t, tell: tell}
}

// layer is a layer that is served.
type layer struct {
	*shared
	info    lazyproto.Layer
	place   lazyproto.Place
	cancel  context.CancelFunc
	blob    *blob
	tree    *tree
	session *session

	mu       sync.Mutex
	whole    bool
	released bool
	stuck    string
	warned   time.Time // of the last event about a read that failed
}

// openCache opens the files in which a layer's bytes are kept.
func openCache(dir string) (file, note *os.File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	if file, err = os.OpenFile(filepath.Join(dir, "blob"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, nil, err
	}
	if note, err = os.OpenFile(filepath.Join(dir, "have"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, note, nil
}

// prepare reads what a layer is. The files are the layer's from now on, also if it fails.
func prepare(info lazyproto.Layer, place lazyproto.Place, sh *shared, src Source, file, note *os.File) (l *layer, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	l = &layer{shared: sh, info: info, place: place, cancel: cancel, whole: note == nil}
	defer func() {
		if err != nil {
			cancel()
			_ = file.Close()
			if note != nil {
				_ = note.Close()
			}
		}
	}()
	if info.Size <= estargz.FooterSize || info.Digest.Validate() != nil || info.TOC.Validate() != nil {
		return nil, unfit("its description is not valid")
	}
	if l.blob, err = newBlob(ctx, info.Size, file, note, src); err != nil {
		return nil, err
	}
	return l, nil
}

// load reads the TOC, from the registry as far as it is not here, and makes the tree.
func (l *layer) load(ctx context.Context) (table chunk, err error) {
	for try := 0; ; try++ {
		table, err = l.loadOnce(ctx)
		if err == nil || ctx.Err() != nil || try > 0 || !errors.Is(err, ErrUnfit) && !errdefs.IsFailedPrecondition(err) {
			return table, err
		}
		// What is here may be from a transfer that a power failure has torn: once more, afresh.
		if ferr := l.blob.forget(max(0, l.info.Size-tail-maxTable), l.info.Size); ferr != nil {
			return table, errors.Join(err, ferr)
		}
	}
}

func (l *layer) loadOnce(ctx context.Context) (table chunk, err error) {
	size := l.info.Size
	if err := l.blob.ensure(ctx, max(0, size-tail), size); err != nil {
		return table, err
	}
	footer := make([]byte, estargz.FooterSize)
	if _, err := l.blob.file.ReadAt(footer, size-estargz.FooterSize); err != nil {
		return table, err
	}
	at, err := tocOffset(footer, size)
	if err != nil {
		return table, err
	}
	if size-at > maxTable {
		return table, unfit("its table of contents has %d bytes, more than %d", size-at, maxTable)
	}
	if err := l.blob.ensure(ctx, at, size); err != nil {
		return table, err
	}
	toc, n, err := readTable(io.NewSectionReader(l.blob.file, at, size-at), l.info.TOC)
	if err != nil {
		return table, err
	}
	if l.tree, err = growTree(toc, at, n); err != nil {
		return table, err
	}
	if l.tree.implied && !l.info.Lowest {
		return table, unfit("it has folders that its archive does not describe: their mode and owner are those of the layers below")
	}
	// The tar header before the TOC is one block of tar.
	return chunk{size: n, start: at, end: size, inner: 512, digest: l.info.TOC}, nil
}

// begin mounts the layer, or goes on with a session.
func (l *layer) begin(table chunk, device *os.File, note []byte) (err error) {
	f := newFiles(l.tree, l.blob, l.chunks, table, l.unread)
	if device != nil {
		l.session, err = takeOver(device, note, f)
		return err
	}
	for unix.Unmount(l.place.Mount, unix.MNT_DETACH) == nil { // what is left of a session that broke off
	}
	if err := os.MkdirAll(l.place.Mount, 0o755); err != nil {
		return err
	}
	l.session, err = mount(l.place.Mount, f)
	return err
}

// run serves and fills the layer until nobody uses it.
func (l *layer) run() {
	var filled sync.WaitGroup
	if !l.whole {
		filled.Go(l.fill)
		go l.prime()
	}
	l.session.serve()
	l.cancel()
	filled.Wait()
	l.chunks.forget(l.blob)
	_ = l.blob.file.Close()
	if l.blob.note != nil {
		_ = l.blob.note.Close()
	}
}

func (l *layer) fill() {
	f := &filler{blob: l.blob, tree: l.tree, digest: l.info.Digest, traffic: l.traffic, tell: l.setStuck}
	err := f.run(l.blob.ctx)
	switch {
	case err == nil:
		l.mu.Lock()
		l.whole, l.stuck = true, ""
		l.mu.Unlock()
		l.tell(lazyproto.Answer{Event: lazyproto.EventWhole, Digest: l.info.Digest})
	case errors.Is(err, errLie):
		l.mu.Lock()
		l.stuck = err.Error()
		l.mu.Unlock()
		l.tell(lazyproto.Answer{Event: lazyproto.EventLies, Digest: l.info.Digest, Error: err.Error()})
	}
}

func (l *layer) setStuck(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	l.mu.Lock()
	l.stuck = text
	l.mu.Unlock()
	l.tell(lazyproto.Answer{Event: lazyproto.EventStuck, Digest: l.info.Digest, Error: text})
}

// unread tells of a read that failed; at most one a second.
func (l *layer) unread(_ uint64, err error) {
	l.mu.Lock()
	quiet := time.Since(l.warned) < time.Second
	if !quiet {
		l.warned = time.Now()
	}
	l.mu.Unlock()
	if !quiet {
		l.tell(lazyproto.Answer{Event: lazyproto.EventUnread, Digest: l.info.Digest, Error: err.Error()})
	}
}

// release unmounts the layer: new containers do not use it. Those that do have their own hold on it.
func (l *layer) release() error {
	l.mu.Lock()
	was := l.released
	l.released = true
	l.mu.Unlock()
	if was {
		return nil
	}
	if err := unix.Unmount(l.place.Mount, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmounting %s: %w", l.place.Mount, err)
	}
	if err := os.Remove(l.place.Mount); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (l *layer) state() lazyproto.Held {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := lazyproto.Held{Layer: l.info, Place: l.place, Here: l.blob.present(), Whole: l.whole, Released: l.released, Stuck: l.stuck}
	l.blob.mu.Lock()
	h.Fetched = l.blob.fetched
	l.blob.mu.Unlock()
	return h
}

// described is what gantryd needs to know, and to have, of the layer.
func (l *layer) described() (lazyproto.Answer, []*os.File) {
	return lazyproto.Answer{Note: l.session.note, Size: l.tree.size, Entries: int64(len(l.tree.nodes))}, []*os.File{l.session.device, l.blob.file}
}

// prime lets the kernel learn that files here have no poll: the first open by a program in Go asks for it, and must not wait
// for a registry behind other requests.
func (l *layer) prime() {
	fd, err := unix.Open(filepath.Join(l.place.Mount, estargz.TOCTarName), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	_ = unix.Close(fd)
}
