package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// listen binds a port so that nobody else can: where the kernel translates, with a bound socket that never sees traffic, as
// that comes before it; where it does not, with one that forwards. It tells whether the port is open over IPv6, too.
func listen(w netproto.Want) (open []io.Closer, ipv6 bool, err error) {
	defer func() {
		if err != nil {
			for _, c := range open {
				_ = c.Close()
			}
			open = nil
		}
	}()
	add := func(c io.Closer, err error) error {
		if err == nil {
			open = append(open, c)
		}
		return err
	}
	switch host := w.Host.Unmap(); {
	case host.Is6():
		return open, true, add(forward(w, host)) // the kernel does not translate what comes from ::1
	case w.Target.Addr().Is6():
		err = add(forward(w, host))
	default:
		err = add(hold(w))
	}
	if err != nil || !w.IPv6 {
		return open, false, err
	}
	err = add(forward(w, netip.IPv6Unspecified()))
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		return open, false, nil // a host without IPv6
	}
	return open, err == nil, err
}

// hold binds the IPv4 port. TCP binds with SO_REUSEADDR, as connections of former
// programs may linger, and takes the option back so that no other program can bind
// beside it. It does not listen: without the kernel's rules a client is refused.
func hold(w netproto.Want) (io.Closer, error) {
	return bind(w, syscall.AF_INET, &syscall.SockaddrInet4{Port: int(w.Port), Addr: w.Host.Unmap().As4()})
}

// nothing is what is held of a port that no program of this host could have.
type nothing struct{}

func (nothing) Close() error { return nil }

func bind(w netproto.Want, family int, at syscall.Sockaddr) (io.Closer, error) {
	kind, proto := syscall.SOCK_STREAM, 0
	switch w.Proto {
	case "udp":
		kind = syscall.SOCK_DGRAM
	case "sctp":
		proto = syscall.IPPROTO_SCTP
	}
	fd, err := syscall.Socket(family, kind|syscall.SOCK_CLOEXEC, proto)
	if w.Proto == "sctp" && (errors.Is(err, syscall.EPROTONOSUPPORT) || errors.Is(err, syscall.ESOCKTNOSUPPORT)) {
		return nothing{}, nil // the kernel has no SCTP for programs; it passes it on all the same
	}
	if err != nil {
		return nil, err
	}
	sock := os.NewFile(uintptr(fd), "port")
	switch w.Proto {
	case "tcp":
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	case "udp":
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 0)
	}
	if family == syscall.AF_INET6 {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1)
	}
	if err := syscall.Bind(fd, at); err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	if w.Proto == "tcp" {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
	}
	return sock, nil
}

// forward accepts at an address of the host and carries to the container. SCTP is only held.
func forward(w netproto.Want, host netip.Addr) (io.Closer, error) {
	at, family := netip.AddrPortFrom(host, w.Port), "4"
	if host.Is6() {
		family = "6"
	}
	switch w.Proto {
	case "sctp":
		if host.Is4() {
			return hold(w)
		}
		return bind(w, syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(w.Port), Addr: host.As16()})
	case "udp":
		c, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil, err
		}
		go (&udpForward{in: c, target: w.Target, peers: map[netip.AddrPort]*net.UDPConn{}}).run()
		return c, nil
	}
	l, err := net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	go forwardTCP(l, w.Target)
	return l, nil
}

func forwardTCP(l *net.TCPListener, target netip.AddrPort) {
	for {
		c, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(50 * time.Millisecond) // out of descriptors
		default:
			go carry(c, target)
		}
	}
}

// carry copies both ways; between two TCP sockets Go's Copy splices. Each direction
// is closed for itself, as half-closed connections are normal.
func carry(c *net.TCPConn, target netip.AddrPort) {
	defer c.Close()
	d := net.Dialer{Timeout: 10 * time.Second}
	out, err := d.Dial("tcp", target.String())
	if err != nil {
		_ = c.SetLinger(0) // the client sees a reset, as it would from the container
		return
	}
	t := out.(*net.TCPConn)
	defer t.Close()
	var both sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{t, c}, {c, t}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = way[0].CloseWrite()
			_ = way[1].CloseRead()
		})
	}
	both.Wait()
}

// udpForward keeps a socket per client, so that answers find the way back.
type udpForward struct {
	in     *net.UDPConn
	target netip.AddrPort

	mu    sync.Mutex
	peers map[netip.AddrPort]*net.UDPConn
}

// A client that is silent for udpIdle is forgotten; udpPeers bounds how many there are.
const (
	udpIdle  = 90 * time.Second
	udpPeers = 1024
)

func (u *udpForward) run() {
	buf := make([]byte, 65535)
	for {
		n, from, err := u.in.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			u.mu.Lock()
			defer u.mu.Unlock()
			for _, p := range u.peers {
				_ = p.Close()
			}
			return
		}
		if err != nil {
			continue
		}
		if p := u.peer(from); p != nil {
			_ = p.SetReadDeadline(time.Now().Add(udpIdle))
			_, _ = p.Write(buf[:n])
		}
	}
}

func (u *udpForward) peer(from netip.AddrPort) *net.UDPConn {
	u.mu.Lock()
	defer u.mu.Unlock()
	if p := u.peers[from]; p != nil {
		return p
	}
	if len(u.peers) >= udpPeers {
		return nil
	}
	p, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.target))
	if err != nil {
		return nil
	}
	u.peers[from] = p
	go u.answers(p, from)
	return p
}

func (u *udpForward) answers(p *net.UDPConn, to netip.AddrPort) {
	defer func() {
		u.mu.Lock()
		delete(u.peers, to)
		u.mu.Unlock()
		_ = p.Close()
	}()
	_ = p.SetReadDeadline(time.Now().Add(udpIdle))
	buf := make([]byte, 65535)
	for {
		n, err := p.Read(buf)
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue
		}
		if err != nil {
			return
		}
		_, _ = u.in.WriteToUDPAddrPort(buf[:n], to)
	}
}
