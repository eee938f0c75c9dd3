// Package keeper is gantryd's side of the keeper: it implements the containers
// service's ports Processes, Lifetimes and Outputs. It starts the anchor (and so
// the keeper) when none runs, comes back when the keeper was replaced, and reads
// output out of the spool by itself.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/version"
)

// Compiler makes a program for gantry-init of a launch: the program, and what is
// needed at clone time. The namespaces of spec.Launch.Join and NetNS are not its business.
type Compiler func(l spec.Launch) (program, facts []byte, err error)

// Config is a driver's.
type Config struct {
	ExecRoot   string // tmpfs
	KeeperPath string
	AnchorPath string
	InitPath   string
	Compile    Compiler
	Logger     *slog.Logger // nil for the default one
}

// Driver talks to one engine's keeper.
type Driver struct {
	cfg Config
	log *slog.Logger

	mu        sync.Mutex
	keeperPID int32
	link      *link         // nil while there is none
	changed   chan struct{} // closed and replaced when link changes
	closed    bool
	nextID    uint32

	waiting map[spec.ProcessKey]map[*reader]struct{} // followers of what is not launched yet
	readers map[uint32]*reader                       // by watch ID
	exits   exitBoard
}

// connectPatience bounds how long a request waits for a keeper that is being replaced.
const connectPatience = 10 * time.Second

// New connects to the running keeper or starts one, and returns when it answers.
func New(cfg Config) (*Driver, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Compile == nil {
		cfg.Compile = func(spec.Launch) ([]byte, []byte, error) {
			return nil, nil, fmt.Errorf("launching: this engine has no runtime compiler: %w", errdefs.ErrNotImplemented)
		}
	}
	d := &Driver{
		cfg: cfg, log: cfg.Logger, changed: make(chan struct{}),
		waiting: map[spec.ProcessKey]map[*reader]struct{}{}, readers: map[uint32]*reader{},
	}
	d.exits.init()
	if err := d.connect(true); err != nil {
		return nil, err
	}
	if err := d.renew(); err != nil { // it does its work all the same
		d.log.Warn("the keeper runs an older executable and could not be replaced", "error", err)
	}
	return d, nil
}

// renew has a keeper that was started from another executable than this engine's, the one before an upgrade of
// the engine, execute the present one in its place.
func (d *Driver) renew() error {
	d.mu.Lock()
	pid := d.keeperPID
	d.mu.Unlock()
	now, err := os.Stat(d.cfg.KeeperPath)
	if err != nil {
		return nil // nothing to replace it by
	}
	if runs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || os.SameFile(runs, now) {
		return nil
	}
	d.log.Info("the keeper runs another executable than this engine's; it is replaced, containers run on", "pid", pid)
	ctx, cancel := context.WithTimeout(context.Background(), connectPatience)
	defer cancel()
	return d.Upgrade(ctx, d.cfg.KeeperPath)
}

// Close leaves the keeper alone; containers run on.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	l := d.link
	d.mu.Unlock()
	if l != nil {
		l.close(net.ErrClosed)
	}
	return nil
}

func (d *Driver) socket() string {
	return filepath.Join(d.cfg.ExecRoot, keeperproto.Dir, keeperproto.SocketName)
}

// connect dials until a keeper answers, starting the anchor when nobody does.
func (d *Driver) connect(start bool) error {
	deadline := time.Now().Add(connectPatience)
	var last error
	var tried time.Time
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		l, err := d.dial()
		if err == nil {
			d.mu.Lock()
			d.link = l
			close(d.changed)
			d.changed = make(chan struct{})
			d.mu.Unlock()
			d.resume(l)
			return nil
		}
		last = err
		d.mu.Lock()
		closed := d.closed
		d.mu.Unlock()
		if closed {
			return net.ErrClosed
		}
		// Again after a while: the first one may have met the lock of an anchor that was just dying.
		if start && time.Since(tried) > 200*time.Millisecond && (errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)) {
			if err := d.startAnchor(); err != nil {
				return err
			}
			tried = time.Now()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the keeper at %s does not answer (see %s beside it): %w: %w", d.socket(), keeperproto.LogName, errdefs.ErrUnavailable, last)
		}
		time.Sleep(pause)
	}
}

// startAnchor starts the anchor in a session of its own. When one runs already, the
// new one finds the lock taken and ends.
func (d *Driver) startAnchor() error {
	cmd := exec.Command(d.cfg.AnchorPath, "--exec-root", d.cfg.ExecRoot, "--keeper", d.cfg.KeeperPath, "--init", d.cfg.InitPath)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	dir := filepath.Join(d.cfg.ExecRoot, keeperproto.Dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("starting the keeper: %w", err)
	}
	failpoint.Hit("gantryd.keeper-starting")
	out, err := os.OpenFile(filepath.Join(dir, "anchor.err"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("starting the keeper: %w", err)
	}
	defer out.Close()
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the keeper: %w", err)
	}
	failpoint.Hit("gantryd.keeper-started")
	go func() {
		if err := cmd.Wait(); err != nil {
			d.log.Debug("anchor ended", "error", err)
		}
	}()
	return nil
}

func (d *Driver) dial() (*link, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: d.socket(), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l := newLink(keeperproto.NewConn(c), d)
	go l.receive()
	ctx, cancel := context.WithTimeout(context.Background(), connectPatience)
	defer cancel()
	m, err := l.call(ctx, keeperproto.TypeHello, keeperproto.Hello{Version: keeperproto.Version, Build: version.Version}.Encode(), nil)
	if err != nil {
		l.close(err)
		return nil, err
	}
	m.CloseFDs()
	r, err := keeperproto.DecodeHelloReply(m.Payload)
	if err != nil {
		l.close(err)
		return nil, err
	}
	d.mu.Lock()
	d.keeperPID = r.PID
	d.mu.Unlock()
	return l, nil
}

// lost is called when a link has broken.
func (d *Driver) lost(l *link) {
	d.mu.Lock()
	if d.closed || d.link != l {
		d.mu.Unlock()
		return
	}
	d.link = nil
	d.mu.Unlock()
	d.log.Info("the keeper is being replaced, or has died; reconnecting")
	go func() {
		for {
			err := d.connect(true)
			if err == nil {
				return
			}
			d.log.Error("keeper", "error", err)
			d.mu.Lock()
			closed := d.closed
			d.mu.Unlock()
			if closed {
				return
			}
		}
	}()
}

// resume puts watches and the subscription into place on a new link.
func (d *Driver) resume(l *link) {
	ctx, cancel := context.WithTimeout(context.Background(), connectPatience)
	defer cancel()
	d.mu.Lock()
	rs := make([]*reader, 0, len(d.readers))
	for _, r := range d.readers {
		rs = append(rs, r)
	}
	d.mu.Unlock()
	failpoint.Hit("gantryd.keeper-resume")
	for _, r := range rs {
		r.resume(ctx, l)
	}
	for _, t := range []keeperproto.Type{keeperproto.TypeResumed, keeperproto.TypeSubscribe} {
		if m, err := l.call(ctx, t, nil, nil); err == nil {
			m.CloseFDs()
		}
	}
}

// current waits for a link.
func (d *Driver) current(ctx context.Context) (*link, error) {
	timeout := time.NewTimer(connectPatience)
	defer timeout.Stop()
	for {
		d.mu.Lock()
		l, ch, closed := d.link, d.changed, d.closed
		d.mu.Unlock()
		if closed {
			return nil, fmt.Errorf("keeper: the connection was closed: %w", errdefs.ErrUnavailable)
		}
		if l != nil {
			return l, nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timeout.C:
			return nil, fmt.Errorf("the keeper does not answer: %w", errdefs.ErrUnavailable)
		}
	}
}

// call sends a request that may be repeated, over as many keepers as it takes.
func (d *Driver) call(ctx context.Context, t keeperproto.Type, payload []byte) (keeperproto.Message, error) {
	for {
		l, err := d.current(ctx)
		if err != nil {
			return keeperproto.Message{}, err
		}
		m, err := l.call(ctx, t, payload, nil)
		if !errors.Is(err, errLinkLost) {
			return m, err
		}
	}
}

// Upgrade makes the keeper execute the binary at path in its place.
func (d *Driver) Upgrade(ctx context.Context, path string) error {
	m, err := d.call(ctx, keeperproto.TypeUpgrade, keeperproto.KeyRequest{Name: path}.Encode())
	m.CloseFDs()
	return err
}

// Stop ends keeper and anchor. It is refused while a process lives.
func (d *Driver) Stop(ctx context.Context) error {
	l, err := d.current(ctx)
	if err != nil {
		return err
	}
	// Before the request: the connection's end must not look like a keeper that died.
	d.setClosed(true)
	m, err := l.call(ctx, keeperproto.TypeStop, nil, nil)
	m.CloseFDs()
	if err != nil {
		d.setClosed(false)
		return err
	}
	return d.Close()
}

func (d *Driver) setClosed(closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = closed
}

var _ io.Closer = (*Driver)(nil)
