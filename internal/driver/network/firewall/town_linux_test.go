package firewall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// town is what packets are sent through: a host, which is the test's own namespace,
// its neighbours on two networks outside, and containers on bridges.
//
//	lan 192.168.50.2 fd50::2 ── eth0 (192.168.50.1 fd50::1) host
//	far 10.80.0.2    fd80::2 ── eth1 (10.80.0.1    fd80::1) host
//	containers 172.30.N.M fd00:30:N::M ── bridge (172.30.N.1 fd00:30:N::1) host
//
// lan routes everything through the host, so it reaches what it is let; far knows the
// host's addresses only.
type town struct {
	t        testing.TB
	lan, far *os.File
}

func newTown(t testing.TB) *town {
	t.Helper()
	w := &town{t: t}
	for _, s := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		must(t, netlink.WriteSysctl(s, "1"))
	}
	w.lan = w.neighbour("eth0", "192.168.50.", "fd50::")
	w.in(w.lan, "ip", "route", "add", "default", "via", "192.168.50.1")
	w.in(w.lan, "ip", "route", "add", "default", "via", "fd50::1")
	w.far = w.neighbour("eth1", "10.80.0.", "fd80::")
	return w
}

// in runs a command in a namespace; nil is the host's.
func (w *town) in(ns *os.File, command ...string) string {
	w.t.Helper()
	var out []byte
	run := func() (err error) {
		out, err = exec.Command(command[0], command[1:]...).CombinedOutput()
		return err
	}
	err := error(nil)
	if ns == nil {
		err = run()
	} else {
		err = netlink.Do(ns, run)
	}
	if err != nil {
		w.t.Fatalf("%v: %v\n%s", command, err, out)
	}
	return string(out)
}

func (w *town) namespace() *os.File {
	w.t.Helper()
	ns, err := netlink.NewNamespace(func() error {
		return errors.Join(netlink.LoopbackUp(), netlink.WriteSysctl("net.ipv6.conf.default.accept_dad", "0"))
	})
	must(w.t, err)
	w.t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// cable joins an interface of the host and eth0 in ns.
func (w *town) cable(iface string, ns *os.File) {
	w.t.Helper()
	w.in(nil, "ip", "link", "add", iface, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()))
	w.in(nil, "ip", "link", "set", iface, "up")
	w.in(ns, "ip", "link", "set", "eth0", "up")
	w.t.Cleanup(func() { _ = exec.Command("ip", "link", "del", iface).Run() })
}

// neighbour makes a host outside, .2 of a network where we are .1.
func (w *town) neighbour(iface, v4, v6 string) *os.File {
	w.t.Helper()
	ns := w.namespace()
	w.cable(iface, ns)
	for n, at := range map[int]*os.File{1: nil, 2: ns} {
		dev := iface
		if at != nil {
			dev = "eth0"
		}
		w.in(at, "ip", "addr", "add", fmt.Sprintf("%s%d/24", v4, n), "dev", dev)
		w.in(at, "ip", "addr", "add", fmt.Sprintf("%s%d/64", v6, n), "dev", dev, "nodad")
	}
	return ns
}

// bridge makes network number n's interface, as the bridge driver does.
func (w *town) bridge(name string, n int) {
	w.t.Helper()
	w.in(nil, "ip", "link", "add", name, "type", "bridge")
	w.t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name).Run() })
	w.in(nil, "ip", "addr", "add", fmt.Sprintf("172.30.%d.1/24", n), "dev", name)
	w.in(nil, "ip", "addr", "add", fmt.Sprintf("fd00:30:%d::1/64", n), "dev", name, "nodad")
	w.in(nil, "ip", "link", "set", name, "up")
	must(w.t, netlink.WriteSysctl("net/ipv4/conf/"+name+"/route_localnet", "1"))
}

// container plugs address number m into bridge number n.
func (w *town) container(bridge string, n, m int) *os.File {
	w.t.Helper()
	ns := w.namespace()
	veth := fmt.Sprintf("v%d-%d", n, m)
	w.cable(veth, ns)
	// Hairpin mode, for where the kernel translates bridged packets itself.
	w.in(nil, "ip", "link", "set", veth, "master", bridge)
	w.in(nil, "bridge", "link", "set", "dev", veth, "hairpin", "on")
	w.in(ns, "ip", "addr", "add", fmt.Sprintf("172.30.%d.%d/24", n, m), "dev", "eth0")
	w.in(ns, "ip", "addr", "add", fmt.Sprintf("fd00:30:%d::%d/64", n, m), "dev", "eth0", "nodad")
	w.in(ns, "ip", "route", "add", "default", "via", fmt.Sprintf("172.30.%d.1", n))
	w.in(ns, "ip", "route", "add", "default", "via", fmt.Sprintf("fd00:30:%d::1", n))
	return ns
}

// serve answers on TCP and UDP ports of both families with who asked.
func (w *town) serve(ns *os.File, ports ...int) {
	w.t.Helper()
	do := func(fn func() error) {
		if ns == nil {
			must(w.t, fn())
			return
		}
		must(w.t, netlink.Do(ns, fn))
	}
	for _, port := range ports {
		var l net.Listener
		do(func() (err error) { l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); return err })
		w.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintln(c, host(c.RemoteAddr()))
				_ = c.Close()
			}
		}()
		for _, network := range []string{"udp4", "udp6"} { // one each: an answer must come from the address that was asked
			var u net.PacketConn
			do(func() (err error) { u, err = net.ListenPacket(network, fmt.Sprintf(":%d", port)); return err })
			w.t.Cleanup(func() { _ = u.Close() })
			go func() {
				buf := make([]byte, 65536)
				for {
					n, from, err := u.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = u.WriteTo(fmt.Appendf(nil, "%s %d", host(from), n), from)
				}
			}()
		}
	}
}

func host(a net.Addr) string {
	h, _, _ := net.SplitHostPort(a.String())
	return netip.MustParseAddr(h).Unmap().String()
}

// What a question meets that is not answered.
const (
	silence     = "silence"
	refused     = "refused"
	prohibited  = "prohibited" // an ICMP error that says so
	unreachable = "unreachable"
)

// ask tells who the server at addr, a port of TCP or UDP, saw asking, or what came instead.
func ask(ns *os.File, proto, addr string, patience time.Duration) string {
	return askWith(ns, proto, addr, patience, []byte("?"))
}

func askWith(ns *os.File, proto, addr string, patience time.Duration, payload []byte) string {
	var c net.Conn
	dial := func() (err error) { c, err = net.DialTimeout(proto, addr, patience); return err }
	err := error(nil)
	if ns == nil {
		err = dial()
	} else {
		err = netlink.Do(ns, dial)
	}
	if err != nil {
		return outcome(err)
	}
	defer c.Close()
	end := time.Now().Add(patience)
	buf := make([]byte, 64)
	for { // UDP is sent again, as what is new is lost now and then
		_ = c.SetDeadline(time.Now().Add(min(patience, time.Second)))
		if proto == "udp" {
			if _, err := c.Write(payload); err != nil {
				return outcome(err)
			}
		}
		n, err := c.Read(buf)
		if err == nil {
			seen, _, _ := strings.Cut(strings.TrimSpace(string(buf[:n])), " ")
			return seen
		}
		if proto == "tcp" || time.Now().After(end) || outcome(err) != silence {
			return outcome(err)
		}
	}
}

func outcome(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ETIMEDOUT):
		return silence
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH):
		return prohibited
	case errors.Is(err, syscall.ENETUNREACH):
		return unreachable
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return silence
	}
	return err.Error()
}

// question is one claim: who asks, whom, and what the other side sees.
type question struct {
	what string
	from *os.File // nil is the host
	to   string   // address and port
	sees string   // the asker's address, or why there is no answer
}

// patience is how long an answer may take; where none is expected, waiting longer
// proves no more.
const (
	patience = 10 * time.Second
	brevity  = time.Second / 2
)

// check asks all questions over TCP and UDP.
func check(t *testing.T, questions []question) {
	t.Helper()
	var all sync.WaitGroup
	for _, q := range questions {
		for _, proto := range []string{"tcp", "udp"} {
			all.Go(func() {
				wait := patience
				if q.sees == silence {
					wait = brevity
				}
				if got := ask(q.from, proto, q.to, wait); got != q.sees {
					t.Errorf("%s: %s to %s: %s; want %s", q.what, proto, q.to, got, q.sees)
				}
			})
		}
	}
	all.Wait()
}

// ping tells whether an address answers an ICMP echo.
func ping(t testing.TB, ns *os.File, addr string, patience time.Duration) bool {
	t.Helper()
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	to := netip.MustParseAddr(addr)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	var c net.PacketConn
	must(t, netlink.Do(ns, func() (err error) { c, err = net.ListenPacket(network, ""); return err }))
	defer c.Close()
	id := byte(os.Getpid())
	echo := []byte{request, 0, 0, 0, 0x67, id, 0, 1} // over IPv6 the kernel fills the checksum in
	sum := uint32(request)<<8 + 0x6700 + uint32(id) + 1
	sum = sum&0xffff + sum>>16
	if to.Is4() {
		echo[2], echo[3] = ^byte(sum>>8), ^byte(sum)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.WriteTo(echo, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return false
		}
		if n >= 8 && buf[0] == reply && buf[5] == id && from.(*net.IPAddr).IP.Equal(to.AsSlice()) {
			return true
		}
	}
}
