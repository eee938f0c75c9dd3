// Package publish opens containers' ports on the host: gantry-net reserves them,
// the firewall leads them to the container. It implements networks.Ports.
package publish

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/gantry-engine/gantry/internal/driver/network/firewall"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/trouble"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/netproto"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Rules is the part of the firewall that is needed. nil rules mean --iptables=false.
type Rules interface {
	// Add opens ports, all or none; before Rebuild it only notes them.
	Add(ports []firewall.Mapping) error
	Remove(ports []firewall.Mapping) error
	// Rebuild makes all rules anew, at once, and keeps them so.
	Rebuild() error
	Close(remove bool) error
}

// Reserver is the client's side of gantry-net.
type Reserver interface {
	Reserve(ctx context.Context, owner string, wants []netproto.Want) ([]netproto.Bound, error)
	Release(ctx context.Context, owner string) error
	Adopt(owner string, wants []netproto.Want)
	Sync(ctx context.Context) error
	Lost() <-chan struct{}
	Close() error
}

// Config is what the daemon decides.
type Config struct {
	HostIP netip.Addr // --ip; invalid is every address
	IPv6   bool       // forward connections over IPv6 too
}

// Publisher implements networks.Ports.
type Publisher struct {
	cfg   Config
	rules Rules
	net   Reserver

	mu    sync.Mutex
	open  map[string][]firewall.Mapping // by container
	stop  context.CancelFunc            // ends watch; nil before Ready
	ended chan struct{}

	troubles trouble.Log
}

// New makes a publisher. rules is nil with --iptables=false.
func New(cfg Config, rules Rules, reserver Reserver) *Publisher {
	return &Publisher{cfg: cfg, rules: rules, net: reserver, open: map[string][]firewall.Mapping{}}
}

// Publish implements networks.Ports.
func (p *Publisher) Publish(ctx context.Context, container string, to spec.PortTarget, ports []spec.Port) (_ []spec.Port, err error) {
	var steps undo.Stack
	defer steps.OnError(ctx, &err)
	bs := p.bindings(ports, to)
	if needed := wants(bs); len(needed) > 0 {
		got, err := p.net.Reserve(ctx, container, plain(needed))
		if err != nil {
			return nil, p.explain(err, needed)
		}
		steps.Push("port reservation", func(ctx context.Context) error { return p.net.Release(ctx, container) })
		bs = settle(bs, needed, got)
	}
	failpoint.Hit("gantryd.net-reserved")
	m := mappings(bs, to)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rules != nil {
		if err := p.rules.Add(m); err != nil {
			return nil, err
		}
	}
	failpoint.Hit("gantryd.net-published")
	p.open[container] = m
	forgetFlows(m)
	return portsOf(bs), nil
}

// Restore implements networks.Ports.
func (p *Publisher) Restore(_ context.Context, container string, to spec.PortTarget, ports []spec.Port) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	bs := p.bindings(ports, to)
	p.open[container] = mappings(bs, to)
	if needed := wants(bs); len(needed) > 0 {
		p.net.Adopt(container, plain(needed))
	}
	return nil
}

// Ready implements networks.Ports. A port that cannot be reserved again does not keep
// the daemon from starting: its rules are in place, the log says so, and it is tried
// again while the container runs.
func (p *Publisher) Ready(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rules != nil {
		for id, m := range p.open {
			if err := p.rules.Add(m); err != nil {
				slog.Error("the ports of a running container cannot be published again", "container", id, "error", err)
			}
		}
		if err := p.rules.Rebuild(); err != nil {
			return err
		}
	}
	failpoint.Hit("gantryd.net-rebuilt")
	p.troubles.Say(troublePorts, p.net.Sync(ctx))
	if p.stop == nil {
		watching, stop := context.WithCancel(context.WithoutCancel(ctx))
		p.stop, p.ended = stop, make(chan struct{})
		go p.watch(watching, p.ended)
	}
	return nil
}

// Withdraw implements networks.Ports.
func (p *Publisher) Withdraw(ctx context.Context, container string) error {
	p.mu.Lock()
	m, published := p.open[container]
	delete(p.open, container)
	var err error
	if p.rules != nil && len(m) > 0 {
		err = p.rules.Remove(m)
	}
	p.mu.Unlock()
	if !published {
		return nil
	}
	failpoint.Hit("gantryd.net-withdrawn")
	forgetFlows(m)
	return errors.Join(err, p.net.Release(ctx, container))
}

// Close implements networks.Ports. gantry-net ends by itself when nothing is left.
func (p *Publisher) Close(_ context.Context, remove bool) error {
	p.mu.Lock()
	stop, ended := p.stop, p.ended
	p.stop = nil
	p.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
	var errs []error
	if p.rules != nil {
		errs = append(errs, p.rules.Close(remove))
	}
	return errors.Join(append(errs, p.net.Close())...)
}

// troublePorts is logged when it begins and when it is over.
const troublePorts = "published ports are not all reserved"

// watchEvery is how often ports that could not be reserved are tried again. The end of
// gantry-net is noticed at once.
const watchEvery = 5 * time.Second

func (p *Publisher) watch(ctx context.Context, ended chan<- struct{}) {
	defer close(ended)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.net.Lost():
		case <-tick.C:
		}
		if err := p.net.Sync(ctx); ctx.Err() == nil {
			p.troubles.Say(troublePorts, err)
		}
	}
}

// plain are wants as gantry-net takes them.
func plain(ws []want) []netproto.Want {
	out := make([]netproto.Want, len(ws))
	for i, w := range ws {
		out[i] = w.Want
	}
	return out
}

// settle notes the ports that were had. A host without IPv6 has none there.
func settle(bs []binding, ws []want, got []netproto.Bound) (out []binding) {
	gone := map[int]bool{}
	for i, w := range ws {
		for _, n := range []int{w.four, w.six} {
			if n >= 0 {
				bs[n].port.HostPort, bs[n].port.HostPortEnd = got[i].Port, 0
			}
		}
		if w.four >= 0 && w.six >= 0 && !got[i].IPv6 {
			gone[w.six] = true
		}
	}
	for i, b := range bs {
		if !gone[i] {
			out = append(out, b)
		}
	}
	return out
}

func (p *Publisher) explain(err error, ws []want) error {
	var taken *TakenError
	if !errors.As(err, &taken) || taken.Index < 0 || taken.Index >= len(ws) {
		return err
	}
	w := ws[taken.Index]
	port := spec.Port{Proto: w.Proto, HostIP: w.Host, HostPort: taken.Port, ContainerPort: w.Target.Port()}
	cause := taken.Cause
	if taken.Owner == "" && taken.Cause == syscall.EADDRINUSE.Error() {
		if who := holder(port.Proto, port.HostPort); who != "" {
			cause += ": " + who
		}
	}
	return &networks.PortTakenError{Port: port, Owner: taken.Owner, Cause: cause}
}

// forgetFlows makes the kernel look UDP ports up again: it has no connections whose
// end it could see, and would go on as before for minutes.
func forgetFlows(ports []firewall.Mapping) {
	for _, m := range ports {
		if m.Proto == "udp" {
			if err := netlink.ForgetPort(m.Port); err != nil {
				slog.Debug("tracked flows could not be dropped", "port", m.Port, "error", err)
			}
		}
	}
}
