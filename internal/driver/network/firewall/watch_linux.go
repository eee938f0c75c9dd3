package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Other programs change the rule set while we run: nft flush ruleset, a reload of
// firewalld or ufw, the start of Docker or Kubernetes. The kernel tells who listens
// (NFNLGRP_NFTABLES); what is ours is then put back.

const (
	// settling is how long a change of others is let go on before it is looked at: a
	// reload is many transactions.
	settling = 100 * time.Millisecond
	// lookEvery is how often one looks without having been told: the old iptables and
	// device groups tell nobody.
	lookEvery = 5 * time.Second
)

// watcher repairs the rules when others have changed them.
type watcher struct {
	f       *Firewall
	events  *netlink.Conn
	changed chan struct{}
	stop    chan struct{}
	ended   chan struct{}
}

// watch starts a watcher.
func watch(f *Firewall) (*watcher, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a socket for nftables' notifications: %w", err)
	}
	w := &watcher{f: f, events: c, changed: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	if err := w.ignore(f.kernel.port.Load()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribing to nftables' notifications: %w", err), c.Close())
	}
	f.kernel.renewed = w.ignore
	go w.listen()
	go w.repair()
	return w, nil
}

// ignore lets the kernel keep the notifications of our own changes to itself: those of a large
// transaction would not fit into the socket, and what is lost may be anybody's.
func (w *watcher) ignore(port uint32) error {
	const sender = 12 // offset of nlmsg_pid, in the host's byte order
	is := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, port))
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: sender, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: is, SkipTrue: 1},
		bpf.RetConstant{Val: math.MaxUint32},
		bpf.RetConstant{Val: 0},
	})
	if err == nil {
		err = w.events.SetBPF(filter)
	}
	if err != nil {
		return fmt.Errorf("filtering nftables' notifications: %w", err)
	}
	return nil
}

func (w *watcher) close() error {
	close(w.stop)
	err := w.events.Close()
	<-w.ended
	return err
}

// listen reads notifications until the socket is closed. One that was lost because
// they came too fast may have been about anything.
func (w *watcher) listen() {
	for {
		messages, err := w.events.Receive()
		for _, m := range messages {
			w.note(m)
		}
		switch {
		case err == nil:
		case errors.Is(err, unix.ENOBUFS):
			w.f.damaged.Store(true)
			w.nudge()
		default:
			return
		}
	}
}

// note looks at one notification: the message of the change, from the port of who made it.
// The first attribute type of all messages about nftables is the table's name.
func (w *watcher) note(m netlink.Message) {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || m.Header.PID == w.f.kernel.port.Load() || len(m.Data) < 4 {
		return
	}
	attrs, err := netlink.UnmarshalAttributes(m.Data[4:])
	if err != nil {
		return
	}
	const tableName = 1
	for _, a := range attrs {
		if a.Type == tableName && w.f.kernel.own(string(bytes.TrimRight(a.Data, "\x00"))) {
			w.f.damaged.Store(true)
			w.nudge()
			return
		}
	}
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		w.nudge()
	}
}

func (w *watcher) nudge() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watcher) repair() {
	defer close(w.ended)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
		case <-w.changed:
			select {
			case <-w.stop:
				return
			case <-time.After(settling):
			}
			select { // what came meanwhile is looked at too
			case <-w.changed:
			default:
			}
		}
		w.f.look()
	}
}
