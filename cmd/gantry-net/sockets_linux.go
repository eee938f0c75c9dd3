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

// listen binds a port so that nobody else can: over IPv4 with a bound socket that
// never sees traffic, because the kernel's translation comes before it; over IPv6
// with one that forwards.
func listen(w netproto.Want) (open []io.Closer, err error) {
	defer func() {
		if err != nil {
			for _, c := range open {
				_ = c.Close()
			}
			open = nil
		}
	}()
	four, err := hold(w)
	if err != nil {
		return nil, err
	}
	open = append(open, four)
	if !w.IPv6 {
		return open, nil
	}
	six, err := forward(w)
	switch {
	case errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL):
		return open, nil // a host without IPv6
	case err != nil:
		return open, err
	}
	return append(open, six), nil
}

// hold binds the IPv4 port. TCP binds with SO_REUSEADDR, as connections of former
// programs may linger, and takes the option back so that no other program can bind
// beside it. It does not listen: without the kernel's rules a client is refused.
func hold(w netproto.Want) (io.Closer, error) {
	kind := syscall.SOCK_STREAM
	if w.Proto == "udp" {
		kind = syscall.SOCK_DGRAM
	}
	fd, err := syscall.Socket(syscall.AF_INET, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	sock := os.NewFile(uintptr(fd), "port")
	if w.Proto == "tcp" {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	} else {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 0)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(w.Port), Addr: w.Host.Unmap().As4()}); err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	if w.Proto == "tcp" {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
	}
	return sock, nil
}

// forward accepts over IPv6 and carries to the container.
func forward(w netproto.Want) (io.Closer, error) {
	at := netip.AddrPortFrom(netip.IPv6Unspecified(), w.Port)
	if w.Proto == "udp" {
		c, err := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil, err
		}
		go (&udpForward{in: c, target: w.Target, peers: map[netip.AddrPort]*net.UDPConn{}}).run()
		return c, nil
	}
	l, err := net.ListenTCP("tcp6", net.TCPAddrFromAddrPort(at))
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
	out, err := d.Dial("tcp4", target.String())
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
	p, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(u.target))
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
