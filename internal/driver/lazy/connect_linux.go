package lazy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/sibling"
	"github.com/gantry-engine/gantry/internal/lazyproto"
)

// connected gives the connection to gantry-lazy; with start it starts one where none runs. One that was not connected
// to before is first told, or asked, what it serves.
func (d *Driver) connected(ctx context.Context, start bool) (*link, error) {
	select {
	case d.dial <- struct{}{}:
		defer func() { <-d.dial }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	d.mu.Lock()
	l, closed := d.link, d.closed
	d.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("the engine is stopping: %w", errdefs.ErrUnavailable)
	}
	if l != nil && !l.broken() {
		return l, nil
	}
	l, err := d.meet(ctx, start)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.link = l
	d.mu.Unlock()
	go d.watch(l)
	return l, nil
}

// meet connects, relieves a gantry-lazy of another version, and brings both sides to the same knowledge.
func (d *Driver) meet(ctx context.Context, start bool) (*link, error) {
	l, err := dial(d.cfg.Socket, d.heard)
	if err != nil && !start {
		return nil, err
	}
	if err == nil {
		same, err := d.learn(ctx, l)
		if err != nil {
			l.close()
			return nil, err
		}
		if same {
			return l, d.feed(ctx, l)
		}
		_ = l.conn.Send(lazyproto.Request{Op: lazyproto.OpLeave})
		<-l.gone
		l.close()
	}
	if err := os.MkdirAll(filepath.Dir(d.cfg.Socket), 0o711); err != nil {
		return nil, err
	}
	if err := sibling.Start(program(d.cfg.Exe, d.cfg.Socket)); err != nil {
		return nil, err
	}
	if l, err = dial(d.cfg.Socket, d.heard); err != nil {
		return nil, fmt.Errorf("connecting to gantry-lazy: %w", err)
	}
	return l, d.feed(ctx, l)
}

// learn asks a gantry-lazy what it serves, takes copies of its sessions, and tells whether it is of this version.
func (d *Driver) learn(ctx context.Context, l *link) (same bool, err error) {
	a, _, err := l.ask(ctx, lazyproto.Request{Op: lazyproto.OpList})
	if err != nil {
		return false, fmt.Errorf("asking gantry-lazy what it serves: %w", err)
	}
	for _, s := range a.Held {
		got, files, err := l.ask(ctx, lazyproto.Request{Op: lazyproto.OpCopy, Digest: s.Layer.Digest})
		if err != nil {
			continue // it has ended meanwhile
		}
		d.mu.Lock()
		h := d.layers[s.Layer.Digest]
		if h == nil { // a former daemon has dropped it, and containers use it
			h = &held{layer: s.Layer, dropped: true}
			d.layers[s.Layer.Digest] = h
		}
		lazyproto.CloseAll(h.files)
		h.files, h.note, h.whole = files, got.Note, s.Whole
		d.mu.Unlock()
	}
	return a.Version == d.cfg.Version, nil
}

// feed has a gantry-lazy serve what it does not serve yet: what another one has served, and what was served before a reboot.
func (d *Driver) feed(ctx context.Context, l *link) error {
	a, _, err := l.ask(ctx, lazyproto.Request{Op: lazyproto.OpList})
	if err != nil {
		return fmt.Errorf("asking gantry-lazy what it serves: %w", err)
	}
	d.mu.Lock()
	var missing, whole []*held
	for blob, h := range d.layers {
		i := slices.IndexFunc(a.Held, func(s lazyproto.Held) bool { return s.Layer.Digest == blob })
		switch {
		case i < 0 && h.dropped && (h.files == nil || !h.whole):
			d.forget(blob)
		case i < 0 && (h.users == 0 || h.files != nil):
			missing = append(missing, h)
		case i >= 0 && h.whole && !h.dropped:
			whole = append(whole, h)
		}
	}
	d.mu.Unlock()
	for _, h := range missing {
		if err := d.again(ctx, l, h); err != nil {
			if errors.Is(err, errGone) {
				return err
			}
			d.cfg.Log.Error("a layer cannot be served; it is tried again", "layer", h.layer.Digest, "image", h.layer.Image, "error", err)
			time.AfterFunc(retryArrival, func() { d.retry(h) })
		}
	}
	for _, h := range whole {
		go d.arrive(h)
	}
	return nil
}

// again has a layer served that was served before.
func (d *Driver) again(ctx context.Context, l *link, h *held) error {
	d.mu.Lock()
	open, dropped := h.files != nil, h.dropped
	d.mu.Unlock()
	if open {
		err := d.ask(ctx, l, h, lazyproto.OpAdopt)
		if err == nil || errors.Is(err, errGone) {
			return err
		}
		d.cfg.Log.Error("a layer's session is lost: containers that use it cannot read from it any more", "layer", h.layer.Digest, "image", h.layer.Image, "error", err)
		d.mu.Lock()
		lazyproto.CloseAll(h.files) // with the last copy the session ends, and reads with an error
		h.files, h.note = nil, nil
		if dropped {
			delete(d.layers, h.layer.Digest)
		}
		d.mu.Unlock()
		if dropped {
			return nil
		}
	}
	return d.ask(ctx, l, h, lazyproto.OpServe)
}

// retry serves a layer that could not be served again when gantry-lazy began.
func (d *Driver) retry(h *held) {
	d.mu.Lock()
	done := d.closed || h.dropped || h.files != nil
	d.mu.Unlock()
	if done {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := d.connected(ctx, true)
	if err == nil {
		err = d.again(ctx, l, h)
	}
	if err != nil {
		time.AfterFunc(retryArrival, func() { d.retry(h) })
	}
}

// How often a gantry-lazy that ends is followed by another one: at most limit times in span, then after a pause.
const (
	limit = 5
	span  = 10 * time.Second
)

// watch waits for the end of a connection. While layers are served, another gantry-lazy takes over.
func (d *Driver) watch(l *link) {
	<-l.gone
	for !l.wasClosed() {
		d.mu.Lock()
		idle := d.closed || len(d.layers) == 0 || d.link != l
		now := time.Now()
		d.started = slices.DeleteFunc(d.started, func(t time.Time) bool { return now.Sub(t) > span })
		often := len(d.started) >= limit
		d.started = append(d.started, now)
		d.mu.Unlock()
		if idle {
			return
		}
		if often {
			time.Sleep(span)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := d.connected(ctx, true)
		cancel()
		if err == nil {
			d.cfg.Log.Warn("gantry-lazy ended and was started again")
			return
		}
		d.cfg.Log.Error("gantry-lazy ended and cannot be started again", "error", err)
		time.Sleep(time.Second)
	}
}

// heard takes an event.
func (d *Driver) heard(a lazyproto.Answer) {
	d.mu.Lock()
	h := d.layers[a.Digest]
	if h == nil {
		d.mu.Unlock()
		return
	}
	log := d.cfg.Log.With("layer", a.Digest, "image", h.layer.Image)
	switch a.Event {
	case lazyproto.EventWhole:
		h.whole, h.trouble = true, ""
		go d.arrive(h)
	case lazyproto.EventStuck:
		if h.trouble = a.Error; a.Error != "" {
			log.Warn("a layer does not come in; it is tried again", "error", a.Error)
		}
	case lazyproto.EventLies:
		h.trouble = a.Error
		go d.troubled(h, errors.New(a.Error))
	case lazyproto.EventUnread:
		log.Error("a read of a layer failed", "error", a.Error)
		go d.troubled(h, errors.New(a.Error))
	case lazyproto.EventEnded:
		if h.dropped {
			d.forget(a.Digest)
			go d.hangUpIfIdle()
			break
		}
		lazyproto.CloseAll(h.files)
		h.files = nil
	}
	d.mu.Unlock()
}

func (d *Driver) troubled(h *held, why error) {
	if d.handler != nil {
		d.handler.Troubled(h.image(), why)
	}
}

// retryArrival is how long is waited after a blob that is whole could not be taken in, as on a full disk.
const retryArrival = time.Minute

// arrive brings a blob that is whole into the stores.
func (d *Driver) arrive(h *held) {
	d.mu.Lock()
	if h.arriving || h.users > 0 || h.dropped || d.closed || d.handler == nil {
		d.mu.Unlock()
		return
	}
	h.arriving = true
	d.mu.Unlock()
	err := d.cfg.Offer(h.layer.Digest, filepath.Join(d.place(h.layer.Digest).Cache, "blob"))
	if err == nil {
		err = d.handler.Arrived(context.Background(), h.image())
	}
	d.mu.Lock()
	h.arriving = false
	gone := h.dropped || d.closed
	if err != nil {
		h.trouble = err.Error()
	}
	d.mu.Unlock()
	if err == nil || gone {
		return
	}
	if err := d.write(h); err != nil {
		d.cfg.Log.Warn("keeping a note of a layer", "layer", h.layer.Digest, "error", err)
	}
	d.troubled(h, err)
	if !errdefs.IsInvalidArgument(err) { // what the image itself says wrong stays wrong
		time.AfterFunc(retryArrival, func() { d.arrive(h) })
	}
}

// detach takes a mount of ours away that may be left.
func detach(dir string) {
	for unix.Unmount(dir, unix.MNT_DETACH) == nil {
	}
	_ = os.Remove(dir)
}

// allocated is how many bytes of a file with holes are on disk.
func allocated(f *os.File) int64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Blocks * 512
}
