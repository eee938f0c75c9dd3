package keeper

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// client is one connection of gantryd.
type client struct {
	k    *Keeper
	conn *keeperproto.Conn
	sock *net.UnixConn

	mu         sync.Mutex
	cond       *sync.Cond
	watches    map[uint32]*watch
	grew       map[*watch]struct{} // to be announced
	exits      []keeperproto.Exited
	subscribed bool
	closed     bool
}

func (k *Keeper) serve(uc *net.UnixConn) {
	c := &client{k: k, conn: keeperproto.NewConn(uc), sock: uc, watches: map[uint32]*watch{}, grew: map[*watch]struct{}{}}
	c.cond = sync.NewCond(&c.mu)
	if err := checkPeer(uc); err != nil {
		k.log.printf("%v", err)
		_ = uc.Close()
		return
	}
	k.cmu.Lock()
	k.clients[c] = struct{}{}
	k.cmu.Unlock()
	go c.events()
	for {
		m, err := c.conn.Receive()
		if err != nil {
			break
		}
		if m.Type == keeperproto.TypeLaunch {
			go c.launch(m)
			continue
		}
		c.handle(m)
		m.CloseFDs()
	}
	c.close()
}

// checkPeer lets only the keeper's own user in.
func checkPeer(uc *net.UnixConn) error {
	raw, err := uc.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return cerr
	}
	if err == nil && cred.Uid != uint32(os.Geteuid()) {
		err = fmt.Errorf("a client of user %d was refused", cred.Uid)
	}
	return err
}

func (c *client) close() {
	_ = c.conn.Close()
	c.k.cmu.Lock()
	delete(c.k.clients, c)
	c.k.cmu.Unlock()
	c.mu.Lock()
	c.closed = true
	ws := make([]*watch, 0, len(c.watches))
	for _, w := range c.watches {
		ws = append(ws, w)
	}
	c.watches = map[uint32]*watch{}
	c.cond.Broadcast()
	c.mu.Unlock()
	for _, w := range ws {
		w.p.mu.Lock()
		delete(w.p.watches, w)
		c.k.kept.punch(w.p)
		w.p.mu.Unlock()
	}
}

func (c *client) addWatch(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watches[w.id] = w
}

func (c *client) dropWatch(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watches[w.id] == w {
		delete(c.watches, w.id)
	}
	// What was to be announced still is: the reader has its own descriptors.
}

// notify has a watch announced soon. It never waits.
func (c *client) notify(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.grew[w] = struct{}{}
		c.cond.Signal()
	}
}

func (k *Keeper) broadcastExit(p *proc) {
	k.cmu.Lock()
	defer k.cmu.Unlock()
	for c := range k.clients {
		c.mu.Lock()
		if c.subscribed {
			c.exits = append(c.exits, *p.exit)
			c.cond.Signal()
		}
		c.mu.Unlock()
	}
}

// events writes what happened to the connection. Only this goroutine waits when gantryd is slow.
func (c *client) events() {
	for {
		c.mu.Lock()
		for len(c.grew) == 0 && len(c.exits) == 0 && !c.closed {
			c.cond.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		exits := c.exits
		c.exits = nil
		acks := make([]keeperproto.Ack, 0, len(c.grew))
		for w := range c.grew {
			acks = append(acks, keeperproto.Ack{ID: w.id, Pos: w.told})
			delete(c.grew, w)
		}
		c.mu.Unlock()
		for _, a := range acks {
			if c.conn.Send(keeperproto.Message{Type: keeperproto.TypeGrew, Payload: a.Encode()}) != nil {
				return
			}
		}
		for _, x := range exits {
			if c.conn.Send(keeperproto.Message{Type: keeperproto.TypeExited, Payload: x.Encode()}) != nil {
				return
			}
			failpoint.Hit("keeper.exit-sent")
		}
	}
}

func (c *client) reply(id uint32, payload []byte, fds ...int) {
	_ = c.conn.Send(keeperproto.Message{Type: keeperproto.TypeOK, ID: id, Payload: payload, FDs: fds})
}

func (c *client) fail(id uint32, err error) {
	var e keeperproto.Error
	if !errors.As(err, &e) {
		e = keeperproto.Error{Text: err.Error()}
		if errors.Is(err, keeperproto.ErrMalformed) {
			e.Class = keeperproto.ClassInvalid
		}
	}
	_ = c.conn.Send(keeperproto.Message{Type: keeperproto.TypeError, ID: id, Payload: e.Encode()})
}

func (c *client) launch(m keeperproto.Message) {
	defer m.CloseFDs()
	failpoint.Hit("keeper.launch-received")
	defer c.k.launching(c)()
	l, err := keeperproto.DecodeLaunch(m.Payload)
	if err != nil {
		c.fail(m.ID, err)
		return
	}
	if hungUp(c.sock) {
		return // nobody is there to know of the process
	}
	p, err := c.k.launcher.launch(l, m.FDs, c)
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
		c.k.log.printf("watch of %s: %v", p.key, err)
	}
	failpoint.Hit("keeper.launch-attached")
	c.reply(m.ID, reply.Encode(), fds...)
	failpoint.Hit("keeper.launch-replied")
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// handle serves one short request.
func (c *client) handle(m keeperproto.Message) {
	k := c.k
	var err error
	switch m.Type {
	case keeperproto.TypeHello:
		err = c.hello(m)
	case keeperproto.TypeSignal, keeperproto.TypeResize, keeperproto.TypeHandle, keeperproto.TypeCloseStdin,
		keeperproto.TypeForget:
		err = c.about(m)
	case keeperproto.TypeWatch:
		err = c.watch(m)
	case keeperproto.TypeAck, keeperproto.TypeUnwatch:
		c.ack(m)
	case keeperproto.TypeList:
		k.waitForLaunches(c)
		c.reply(m.ID, k.table.list().Encode())
	case keeperproto.TypeSubscribe:
		c.subscribe(m.ID)
	case keeperproto.TypeResumed:
		k.kept.resumed()
		c.reply(m.ID, nil)
	case keeperproto.TypeUpgrade:
		var r keeperproto.KeyRequest
		if r, err = keeperproto.DecodeKeyRequest(m.Payload); err == nil {
			// The answer first: after the exec there is nobody to give it.
			c.reply(m.ID, nil)
			if err := k.upgrade(r.Name); err != nil {
				k.log.printf("upgrade to %s: %v", r.Name, err)
			}
		}
	case keeperproto.TypeStop:
		if err = k.stopNow(); err == nil {
			c.reply(m.ID, nil)
		}
	default:
		err = protoError(keeperproto.ClassUnimplemented, "the keeper does not know request %d", m.Type)
	}
	if err != nil {
		c.fail(m.ID, err)
	}
}

func (c *client) hello(m keeperproto.Message) error {
	h, err := keeperproto.DecodeHello(m.Payload)
	if err != nil {
		return err
	}
	if h.Version < keeperproto.MinVersion {
		return protoError(keeperproto.ClassInvalid, "this keeper speaks versions %d to %d of its protocol, not %d", keeperproto.MinVersion, keeperproto.Version, h.Version)
	}
	r := keeperproto.HelloReply{Version: min(h.Version, keeperproto.Version), PID: int32(os.Getpid()), Build: c.k.cfg.Build}
	c.reply(m.ID, r.Encode())
	return nil
}

// subscribe delivers every exit that is not forgotten, and those to come.
func (c *client) subscribe(id uint32) {
	c.reply(id, nil)
	all := c.k.table.all()
	c.k.cmu.Lock()
	c.mu.Lock()
	c.subscribed = true
	c.mu.Unlock()
	c.k.cmu.Unlock()
	// An exit that happens meanwhile may come twice; the client tells by its Gen.
	for _, p := range all {
		p.mu.Lock()
		if p.told {
			c.mu.Lock()
			c.exits = append(c.exits, *p.exit)
			c.cond.Signal()
			c.mu.Unlock()
		}
		p.mu.Unlock()
	}
}

// about serves a request about one process.
func (c *client) about(m keeperproto.Message) error {
	r, err := keeperproto.DecodeKeyRequest(m.Payload)
	if err != nil {
		return err
	}
	p, err := c.k.table.find(r)
	if err != nil {
		return err
	}
	if m.Type == keeperproto.TypeForget {
		if p.runs() {
			return protoError(keeperproto.ClassPrecondition, "%s still runs", r.Key)
		}
		failpoint.Hit("keeper.forget-received")
		c.k.remover.forget(p)
		c.reply(m.ID, nil)
		failpoint.Hit("keeper.forget-replied")
		return nil
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
		c.k.anchor.send(keeperproto.Message{Type: keeperproto.TypeRetire, Payload: keeperproto.Hold{
			Name: p.name, Gen: p.gen, PID: int32(p.pid), Kinds: []keeperproto.FDKind{keeperproto.FDStdin}}.Encode()})
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

func (p *proc) handle(name string) int {
	switch name {
	case "stdin":
		if p.tty >= 0 {
			return p.tty
		}
		return p.stdin
	case "terminal":
		return p.tty
	case "pidfd":
		return p.pidfd
	case "mnt":
		return p.mountNS
	}
	return -1
}

// viewFDs opens spool and slot for a reader. p.mu is held.
func (p *proc) viewFDs() ([]int, error) {
	var fds []int
	for _, name := range []string{spoolName, slotName} {
		fd, err := unix.Open(p.dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			closeFDs(fds)
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func (c *client) watch(m keeperproto.Message) error {
	r, err := keeperproto.DecodeWatch(m.Payload)
	if err != nil {
		return err
	}
	p, err := c.k.table.find(keeperproto.KeyRequest{Key: r.Key})
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

func (c *client) ack(m keeperproto.Message) {
	a, err := keeperproto.DecodeAck(m.Payload)
	if err != nil {
		return
	}
	c.mu.Lock()
	w := c.watches[a.ID]
	if m.Type == keeperproto.TypeUnwatch {
		delete(c.watches, a.ID)
		delete(c.grew, w)
	}
	c.mu.Unlock()
	if w == nil {
		return
	}
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if m.Type == keeperproto.TypeUnwatch {
		delete(w.p.watches, w)
		c.k.kept.punch(w.p)
		return
	}
	if !w.p.gone {
		w.ack(a.Pos, c.k.kept)
	}
}

// upgrade replaces this process by a new binary: what it needs is on the exec root and with the
// anchor, just as after a crash.
func (k *Keeper) upgrade(path string) error {
	failpoint.Hit("keeper.upgrade-asked")
	fd, err := k.anchor.prepareExec()
	if err != nil {
		return fmt.Errorf("there is no anchor to hold the descriptors: %w", err)
	}
	k.log.printf("upgrade: executing %s", path)
	do := k.cfg.Exec
	if do == nil {
		do = unix.Exec
	}
	k.cfg.Spawner.Close()
	time.Sleep(time.Millisecond) // the answer leaves
	failpoint.Hit("keeper.upgrade-exec")
	err = do(path, upgradeArgs(fd), os.Environ())
	unix.CloseOnExec(fd)
	return err
}

// upgradeArgs are this process's arguments with the anchor's socket's number in place.
func upgradeArgs(fd int) []string {
	args := []string{os.Args[0]}
	for i := 1; i < len(os.Args); i++ {
		if os.Args[i] == "--anchor-fd" {
			i++
			continue
		}
		args = append(args, os.Args[i])
	}
	return append(args, "--anchor-fd", fmt.Sprint(fd))
}
