package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Launch makes a process and returns when the user's program runs. A failure
// before that is a *spec.LaunchError.
func (d *Driver) Launch(ctx context.Context, l spec.Launch) (spec.Running, error) {
	m, err := launchMessage(d.compile, l)
	if err != nil {
		return spec.Running{}, err
	}
	var fds []int
	if l.NetNS != nil {
		fds = []int{int(l.NetNS.Fd())}
	}
	rs := d.followers.claim(l.Key)
	for _, r := range rs {
		m.Watches = append(m.Watches, r.id)
	}
	link, err := d.current(ctx)
	if err != nil {
		d.followers.unclaim(rs)
		return spec.Running{}, err
	}
	failpoint.Hit("gantryd.keeper-launch")
	msg, err := link.call(ctx, keeperproto.TypeLaunch, m.Encode(), fds)
	if errors.Is(err, errLinkLost) {
		return d.launchAfterLoss(ctx, l.Key, rs)
	}
	if err != nil {
		d.followers.unclaim(rs)
		return spec.Running{}, err
	}
	failpoint.Hit("gantryd.keeper-launched")
	defer msg.CloseFDs()
	r, err := keeperproto.DecodeLaunchReply(msg.Payload)
	if err != nil {
		d.followers.unclaim(rs)
		return spec.Running{}, err
	}
	for _, reader := range rs {
		_ = reader.begin(msg.FDs, r.Gen, 0) // whoever reads is told
	}
	return spec.Running{PID: int(r.PID), Started: time.Unix(0, r.Started)}, nil
}

// launchAfterLoss finds out what became of a launch whose answer was lost: the next keeper
// either looks after the process or has made sure that there is none.
func (d *Driver) launchAfterLoss(ctx context.Context, key spec.ProcessKey, rs []*reader) (spec.Running, error) {
	l, err := d.entries(ctx)
	if err == nil {
		for _, e := range l.Entries {
			if e.Key != key {
				continue
			}
			for _, r := range rs {
				if link, err := d.current(ctx); err == nil {
					r.resume(ctx, link)
				}
			}
			return spec.Running{PID: int(e.PID), Started: time.Unix(0, e.Started)}, nil
		}
	}
	d.followers.unclaim(rs)
	return spec.Running{}, fmt.Errorf("launching %s: the keeper was replaced before the process ran; try again: %w", key, errdefs.ErrUnavailable)
}

func (d *Driver) about(ctx context.Context, t keeperproto.Type, r keeperproto.KeyRequest) ([]int, error) {
	m, err := d.call(ctx, t, r.Encode())
	if err != nil {
		m.CloseFDs()
		return nil, err
	}
	return m.FDs, nil
}

// Signal sends a signal by pidfd. errdefs.NotFound means that the process has ended.
func (d *Driver) Signal(ctx context.Context, key spec.ProcessKey, signal int) error {
	_, err := d.about(ctx, keeperproto.TypeSignal, keeperproto.KeyRequest{Key: key, A: int32(signal)})
	return err
}

// CloseStdin closes the kept write end.
func (d *Driver) CloseStdin(ctx context.Context, key spec.ProcessKey) error {
	_, err := d.about(ctx, keeperproto.TypeCloseStdin, keeperproto.KeyRequest{Key: key})
	return err
}

// Resize sets the terminal's size in characters.
func (d *Driver) Resize(ctx context.Context, key spec.ProcessKey, height, width uint16) error {
	_, err := d.about(ctx, keeperproto.TypeResize, keeperproto.KeyRequest{Key: key, A: int32(height), B: int32(width)})
	return err
}

// Handle fetches a descriptor as an *os.File; the caller closes it.
func (d *Driver) Handle(ctx context.Context, key spec.ProcessKey, h spec.Handle) (io.ReadWriteCloser, error) {
	fds, err := d.about(ctx, keeperproto.TypeHandle, keeperproto.KeyRequest{Key: key, Name: string(h)})
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("fetching %s of %s: the keeper sent %d descriptors: %w", h, key, len(fds), errdefs.ErrInternal)
	}
	return os.NewFile(uintptr(fds[0]), string(h)+" of "+key.String()), nil
}

func (d *Driver) entries(ctx context.Context) (keeperproto.List, error) {
	m, err := d.call(ctx, keeperproto.TypeList, nil)
	if err != nil {
		return keeperproto.List{}, err
	}
	return keeperproto.DecodeList(m.Payload)
}

// Alive lists the processes that run, or whose exit was not announced yet.
func (d *Driver) Alive(ctx context.Context) (map[spec.ProcessKey]spec.Running, error) {
	return d.list(ctx, true)
}

// Ended lists the processes whose exit was announced and that were not forgotten.
func (d *Driver) Ended(ctx context.Context) (map[spec.ProcessKey]spec.Running, error) {
	return d.list(ctx, false)
}

func (d *Driver) list(ctx context.Context, alive bool) (map[spec.ProcessKey]spec.Running, error) {
	l, err := d.entries(ctx)
	if err != nil {
		return nil, err
	}
	all := map[spec.ProcessKey]spec.Running{}
	for _, e := range l.Entries {
		if e.Alive == alive {
			all[e.Key] = spec.Running{PID: int(e.PID), Started: time.Unix(0, e.Started), Note: e.Note}
		}
	}
	return all, nil
}

// Forget drops an ended process. Forgetting what is not there is no error.
func (d *Driver) Forget(ctx context.Context, key spec.ProcessKey) error {
	failpoint.Hit("gantryd.keeper-forget")
	_, err := d.about(ctx, keeperproto.TypeForget, keeperproto.KeyRequest{Key: key})
	if errdefs.IsNotFound(err) {
		err = nil
	}
	if err == nil {
		d.exitBoard.forget(key)
	}
	return err
}
