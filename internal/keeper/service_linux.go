package keeper

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// service answers the clients' requests. Those of one client come one after the other, but for launches.
type service struct {
	build    string
	log      *boundedLog
	table    *table
	anchor   *anchorLink
	kept     *retention
	launcher *launcher
	remover  *remover
	clients  *clients
	inflight *inflight
	life     lifetime
}

// lifetime is what a client may ask of the keeper itself.
type lifetime interface {
	// stopNow ends the keeper, when no process lives.
	stopNow() error
	// upgrade replaces it by a new binary.
	upgrade(path string) error
}

// accept serves all who connect, until ln is closed.
func (s *service) accept(ln *net.UnixListener) {
	for {
		c, err := ln.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.printf("accept: %v", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go s.serve(c)
	}
}

func (s *service) serve(uc *net.UnixConn) {
	if err := checkPeer(uc); err != nil {
		s.log.printf("%v", err)
		_ = uc.Close()
		return
	}
	c := newClient(uc)
	s.clients.add(c)
	go c.events()
	for {
		m, err := c.conn.Receive()
		if err != nil {
			break
		}
		if m.Type == keeperproto.TypeLaunch {
			go s.launch(c, m)
			continue
		}
		if err := s.handle(c, m); err != nil {
			c.fail(m.ID, err)
		}
		m.CloseFDs()
	}
	s.clients.remove(c)
	for _, w := range c.close() {
		s.unwatch(w)
	}
}

func (s *service) launch(c *client, m keeperproto.Message) {
	defer m.CloseFDs()
	failpoint.Hit("keeper.launch-received")
	defer s.inflight.begin(c)()
	l, err := keeperproto.DecodeLaunch(m.Payload)
	if err != nil {
		c.fail(m.ID, err)
		return
	}
	if c.hungUp() {
		return // nobody is there to know of the process
	}
	p, err := s.launcher.launch(l, m.FDs, c)
	if err != nil {
		c.fail(m.ID, err)
		return
	}
	p.mu.Lock()
	reply := keeperproto.LaunchReply{PID: int32(p.pid), Gen: p.gen}
	var fds []int
	if p.sp.slot != nil {
		reply.Started = p.sp.slot.started.Load()
		if len(l.Watches) > 0 {
			fds, err = p.viewFDs()
		}
	}
	p.mu.Unlock()
	defer closeFDs(fds)
	if err != nil {
		s.log.printf("watch of %s: %v", p.key, err)
	}
	failpoint.Hit("keeper.launch-attached")
	c.reply(m.ID, reply.Encode(), fds...)
	failpoint.Hit("keeper.launch-replied")
}

// handle serves one short request. It has answered, unless it gives an error.
func (s *service) handle(c *client, m keeperproto.Message) error {
	switch m.Type {
	case keeperproto.TypeHello:
		return s.hello(c, m)
	case keeperproto.TypeSignal, keeperproto.TypeResize, keeperproto.TypeHandle, keeperproto.TypeCloseStdin:
		return s.about(c, m)
	case keeperproto.TypeForget:
		return s.forget(c, m)
	case keeperproto.TypeWatch:
		return s.watch(c, m)
	case keeperproto.TypeAck, keeperproto.TypeUnwatch:
		s.ack(c, m)
	case keeperproto.TypeList:
		s.inflight.waitForOthers(c)
		c.reply(m.ID, s.table.list().Encode())
	case keeperproto.TypeSubscribe:
		s.subscribe(c, m.ID)
	case keeperproto.TypeResumed:
		s.kept.resumed()
		c.reply(m.ID, nil)
	case keeperproto.TypeUpgrade:
		r, err := keeperproto.DecodeKeyRequest(m.Payload)
		if err != nil {
			return err
		}
		// The answer first: after the exec there is nobody to give it.
		c.reply(m.ID, nil)
		if err := s.life.upgrade(r.Name); err != nil {
			s.log.printf("upgrade to %s: %v", r.Name, err)
		}
	case keeperproto.TypeStop:
		if err := s.life.stopNow(); err != nil {
			return err
		}
		c.reply(m.ID, nil)
	default:
		return protoError(keeperproto.ClassUnimplemented, "the keeper does not know request %d", m.Type)
	}
	return nil
}

func (s *service) hello(c *client, m keeperproto.Message) error {
	h, err := keeperproto.DecodeHello(m.Payload)
	if err != nil {
		return err
	}
	if h.Version < keeperproto.MinVersion {
		return protoError(keeperproto.ClassInvalid, "this keeper speaks versions %d to %d of its protocol, not %d", keeperproto.MinVersion, keeperproto.Version, h.Version)
	}
	r := keeperproto.HelloReply{Version: min(h.Version, keeperproto.Version), PID: int32(os.Getpid()), Build: s.build}
	c.reply(m.ID, r.Encode())
	return nil
}

// subscribe delivers every exit that is not forgotten, and those to come.
func (s *service) subscribe(c *client, id uint32) {
	c.reply(id, nil)
	all := s.table.all()
	s.clients.subscribe(c)
	// An exit that happens meanwhile may come twice; the client tells by its Gen.
	for _, p := range all {
		p.mu.Lock()
		if p.told {
			c.exited(*p.exit)
		}
		p.mu.Unlock()
	}
}

// find gives the process that a request is about.
func (s *service) find(m keeperproto.Message) (r keeperproto.KeyRequest, p *proc, err error) {
	if r, err = keeperproto.DecodeKeyRequest(m.Payload); err == nil {
		p, err = s.table.find(r.Key)
	}
	return r, p, err
}

func (s *service) forget(c *client, m keeperproto.Message) error {
	r, p, err := s.find(m)
	if err != nil {
		return err
	}
	if p.runs() {
		return protoError(keeperproto.ClassPrecondition, "%s still runs", r.Key)
	}
	failpoint.Hit("keeper.forget-received")
	s.remover.forget(p)
	c.reply(m.ID, nil)
	failpoint.Hit("keeper.forget-replied")
	return nil
}

// about serves a request about one process that runs.
func (s *service) about(c *client, m keeperproto.Message) error {
	r, p, err := s.find(m)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alive() || p.pidfd < 0 {
		return protoError(keeperproto.ClassNotFound, "%s has ended", r.Key)
	}
	var fds []int
	switch m.Type {
	case keeperproto.TypeSignal:
		failpoint.Hit("keeper.signal-received")
		err = unix.PidfdSendSignal(p.pidfd, unix.Signal(r.A), nil, 0)
	case keeperproto.TypeResize:
		if p.tty < 0 {
			return protoError(keeperproto.ClassInvalid, "%s has no terminal", r.Key)
		}
		err = unix.IoctlSetWinsize(p.tty, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(r.A), Col: uint16(r.B)})
	case keeperproto.TypeCloseStdin:
		closeFD(&p.stdin)
		s.anchor.retire(p, keeperproto.FDStdin)
		failpoint.Hit("keeper.stdin-closed")
	case keeperproto.TypeHandle:
		fd := p.handle(r.Name)
		if fd < 0 {
			return protoError(keeperproto.ClassNotFound, "%s has no %q", r.Key, r.Name)
		}
		fds = []int{fd}
	}
	if err == unix.ESRCH {
		return protoError(keeperproto.ClassNotFound, "%s has ended", r.Key)
	}
	if err != nil {
		return protoError(keeperproto.ClassUnknown, "%s: %v", r.Key, err)
	}
	c.reply(m.ID, nil, fds...)
	failpoint.Hit("keeper.request-replied")
	return nil
}

func (s *service) watch(c *client, m keeperproto.Message) error {
	r, err := keeperproto.DecodeWatch(m.Payload)
	if err != nil {
		return err
	}
	p, err := s.table.find(r.Key)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || p.sp.slot == nil || r.Gen != 0 && r.Gen != p.gen || p.sp.slot.started.Load() == 0 {
		return protoError(keeperproto.ClassNotFound, "the keeper has no process %s", r.Key)
	}
	fds, err := p.viewFDs()
	if err != nil {
		return err
	}
	defer closeFDs(fds)
	w := p.addWatch(c, r.ID, r.Pos)
	c.reply(m.ID, keeperproto.WatchReply{Pos: w.pos, Gen: p.gen}.Encode(), fds...)
	failpoint.Hit("keeper.watch-replied")
	return nil
}

// ack moves a watch on, or ends it. It has no answer.
func (s *service) ack(c *client, m keeperproto.Message) {
	a, err := keeperproto.DecodeAck(m.Payload)
	if err != nil {
		return
	}
	last := m.Type == keeperproto.TypeUnwatch
	w := c.watched(a.ID, last)
	if w == nil {
		return
	}
	if last {
		s.unwatch(w)
		return
	}
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if !w.p.gone {
		w.ack(a.Pos, s.kept)
	}
}

// unwatch gives back what only w has not consumed.
func (s *service) unwatch(w *watch) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.watches.drop(w)
	s.kept.punch(w.p)
}
