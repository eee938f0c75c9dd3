// Package publish opens containers' ports on the host: gantry-net reserves them,
// the firewall leads them to the container. It implements networks.Ports.
package publish

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
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
	Reserve(ctx context.Context, owner string, wants []netproto.Want) ([]uint16, error)
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

	nextSCTP uint16 // where the search for a free port of SCTP begins

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
	bound := p.defaults(ports, to)
	if needed := onHost(bound, to); len(needed) > 0 {
		got, err := p.net.Reserve(ctx, container, p.wants(bound, needed, to))
		if err != nil {
			return nil, p.explain(err, bound, needed)
		}
		steps.Push("port reservation", func(ctx context.Context) error { return p.net.Release(ctx, container) })
		for i, n := range needed {
			bound[n].HostPort, bound[n].HostPortEnd = got[i], 0
		}
	}
	failpoint.Hit("gantryd.net-reserved")
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.assign(bound, to); err != nil {
		return nil, err
	}
	m := mappings(bound, to)
	if p.rules != nil {
		if err := p.rules.Add(m); err != nil {
			return nil, err
		}
	}
	failpoint.Hit("gantryd.net-published")
	p.open[container] = m
	forgetFlows(m)
	return bound, nil
}

// Restore implements networks.Ports.
func (p *Publisher) Restore(_ context.Context, container string, to spec.PortTarget, ports []spec.Port) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[container] = mappings(ports, to)
	if wants := p.wants(ports, onHost(ports, to), to); len(wants) > 0 {
		p.net.Adopt(container, wants)
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
	m := p.open[container]
	delete(p.open, container)
	var err error
	if p.rules != nil && len(m) > 0 {
		err = p.rules.Remove(m)
	}
	p.mu.Unlock()
	if len(m) == 0 {
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

// defaults fills in where ports are published that name no address. Unspecified is
// every address of the host, of both families.
func (p *Publisher) defaults(ports []spec.Port, to spec.PortTarget) []spec.Port {
	out := make([]spec.Port, len(ports))
	for i, x := range ports {
		x.Proto = strings.ToLower(x.Proto)
		switch {
		case !x.HostIP.IsValid() && to.HostIPv4.IsValid():
			x.HostIP = to.HostIPv4
		case !x.HostIP.IsValid() && p.cfg.HostIP.IsValid():
			x.HostIP = p.cfg.HostIP
		case !x.HostIP.IsValid() || x.HostIP.IsUnspecified():
			x.HostIP = netip.IPv4Unspecified()
		}
		if routed(x, to) {
			x.HostPort, x.HostPortEnd = 0, 0
		}
		out[i] = x
	}
	return out
}

// families tells over which address families a port is published.
func families(x spec.Port, to spec.PortTarget) (v4, v6 bool) {
	every := !x.HostIP.IsValid() || x.HostIP.IsUnspecified()
	v4 = to.IPv4.IsValid() && (every || x.HostIP.Unmap().Is4())
	v6 = to.IPv6.IsValid() && (every || !x.HostIP.Unmap().Is4())
	return v4, v6
}

// routed tells whether a port is open at the container's own addresses only.
func routed(x spec.Port, to spec.PortTarget) bool {
	v4, v6 := families(x, to)
	return (v4 || v6) && (!v4 || to.Routed4) && (!v6 || to.Routed6)
}

// onHost are the indices of the ports that gantry-net reserves.
func onHost(ports []spec.Port, to spec.PortTarget) (out []int) {
	for i, x := range ports {
		if !routed(x, to) && x.Proto != sctp {
			out = append(out, i)
		}
	}
	return out
}

// wants is what is to be reserved for the ports of these indices.
func (p *Publisher) wants(ports []spec.Port, needed []int, to spec.PortTarget) []netproto.Want {
	addr := to.IPv4
	if !addr.IsValid() {
		addr = to.IPv6
	}
	out := make([]netproto.Want, len(needed))
	for i, n := range needed {
		x := ports[n]
		host := x.HostIP
		if !host.IsValid() {
			host = netip.IPv4Unspecified()
		}
		out[i] = netproto.Want{
			Proto: x.Proto, Host: host, Port: x.HostPort, End: x.HostPortEnd,
			Target: netip.AddrPortFrom(addr, x.ContainerPort), IPv6: p.cfg.IPv6 && host.IsUnspecified(),
		}
	}
	return out
}

func (p *Publisher) explain(err error, ports []spec.Port, needed []int) error {
	var taken *TakenError
	if !errors.As(err, &taken) || taken.Index < 0 || taken.Index >= len(needed) {
		return err
	}
	port := ports[needed[taken.Index]]
	port.HostPort = taken.Port
	cause := taken.Cause
	if taken.Owner == "" && taken.Cause == syscall.EADDRINUSE.Error() {
		if who := holder(port.Proto, port.HostPort); who != "" {
			cause += ": " + who
		}
	}
	return &networks.PortTakenError{Port: port, Owner: taken.Owner, Cause: cause}
}

// mappings are the packet rules of ports: one for each family that a port has.
func mappings(ports []spec.Port, to spec.PortTarget) []firewall.Mapping {
	var out []firewall.Mapping
	for _, x := range ports {
		v4, v6 := families(x, to)
		every := !x.HostIP.IsValid() || x.HostIP.IsUnspecified()
		add := func(host, target netip.Addr) {
			if !every {
				host = x.HostIP
			}
			out = append(out, firewall.Mapping{
				Bridge: to.Interface, Proto: x.Proto, Host: host, Port: x.HostPort, Target: netip.AddrPortFrom(target, x.ContainerPort),
			})
		}
		if v4 {
			add(netip.IPv4Unspecified(), to.IPv4)
		}
		if v6 {
			add(netip.IPv6Unspecified(), to.IPv6)
		}
	}
	return out
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
