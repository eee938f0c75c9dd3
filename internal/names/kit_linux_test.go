package names

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/netproto"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// newServer is a server that leaves no descriptor and no goroutine behind.
func newServer(t *testing.T) *Server {
	t.Helper()
	before, running := descriptors(t), runtime.NumGoroutine()
	s, err := New()
	check(t, err)
	t.Cleanup(func() {
		s.Close()
		await(t, "descriptors to be closed", func() bool { return descriptors(t) <= before })
		await(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= running })
	})
	return s
}

func descriptors(t *testing.T) int {
	t.Helper()
	runtime.GC() // a namespace's file that nobody closed
	all, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	n := len(all)
	for _, f := range all { // the Go runtime's own, which come with the first use and stay
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err != nil || to == "anon_inode:[eventpoll]" || to == "anon_inode:[eventfd]" {
			n--
		}
	}
	return n
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// place is a container: a namespace whose sockets the server has.
type place struct {
	t  *testing.T
	ns *os.File
}

var resolver = net.UDPAddrFromAddrPort(netip.AddrPortFrom(netproto.ResolverAddress, netproto.ResolverPort))

// newPlace makes a namespace; serve has it served.
func newPlace(t *testing.T) *place {
	t.Helper()
	ns, err := netlink.NewNamespace(netlink.LoopbackUp)
	check(t, err)
	p := &place{t: t, ns: ns}
	t.Cleanup(func() { _ = ns.Close() })
	return p
}

func (p *place) serve(s *Server, sb netproto.Sandbox) {
	p.t.Helper()
	var files []*os.File
	p.inside(func() error {
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
			check(p.t, err)
			check(p.t, unix.Bind(fd, &unix.SockaddrInet4{Port: netproto.ResolverPort, Addr: netproto.ResolverAddress.As4()}))
			if kind == unix.SOCK_STREAM {
				check(p.t, unix.Listen(fd, 64))
			}
			files = append(files, os.NewFile(uintptr(fd), "resolver"))
		}
		return nil
	})
	if heard, err := s.Serve(sb, files); err != nil || !heard {
		p.t.Fatalf("serving %s: %v, %v", sb.Container, heard, err)
	}
}

func (p *place) inside(do func() error) {
	p.t.Helper()
	if err := netlink.Do(p.ns, do); err != nil {
		p.t.Fatal(err)
	}
}

// udp is a socket that asks the server.
func (p *place) udp() *net.UDPConn {
	p.t.Helper()
	var c *net.UDPConn
	p.inside(func() (err error) {
		c, err = net.DialUDP("udp4", nil, resolver)
		return err
	})
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// tcp is a connection to the server.
func (p *place) tcp() *net.TCPConn {
	p.t.Helper()
	var c *net.TCPConn
	p.inside(func() (err error) {
		c, err = net.DialTCP("tcp4", nil, &net.TCPAddr{IP: resolver.IP, Port: resolver.Port})
		return err
	})
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// query asks over a socket of its own and gives the answer.
func (p *place) query(network, name string, kind dnsmessage.Type, size int) (dnsmessage.Message, []string) {
	p.t.Helper()
	var c net.Conn
	if network == "tcp" {
		c = p.tcp()
	} else {
		c = p.udp()
	}
	defer c.Close()
	return exchange(p.t, c, ask(p.t, name, kind, size))
}

func exchange(t *testing.T, c net.Conn, raw []byte) (dnsmessage.Message, []string) {
	t.Helper()
	send(t, c, raw)
	return read(t, receive(t, c))
}

func send(t *testing.T, c net.Conn, raw []byte) {
	t.Helper()
	if _, ok := c.(*net.TCPConn); ok {
		raw = append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)
	}
	_, err := c.Write(raw)
	check(t, err)
}

func receive(t *testing.T, c net.Conn) []byte {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	raw, err := next(c)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return raw
}

// next reads a message.
func next(c net.Conn) ([]byte, error) {
	raw := make([]byte, maxMessage)
	if _, ok := c.(*net.TCPConn); !ok {
		n, err := c.Read(raw)
		return raw[:n], err
	}
	if _, err := io.ReadFull(c, raw[:2]); err != nil {
		return nil, err
	}
	raw = raw[:binary.BigEndian.Uint16(raw)]
	_, err := io.ReadFull(c, raw)
	return raw, err
}

// upstream is a DNS server that does what a test wants.
type upstream struct {
	udp *net.UDPConn
	tcp *net.TCPListener

	mu    sync.Mutex
	asked map[string]int // by network
}

// behaviour is what a server sends for a question, message by message; it may block.
type behaviour func(network string, asked []byte, say func([]byte))

// newUpstream starts a server in the namespace of p, or in the test's own if p is nil. It answers TCP only with overTCP.
func newUpstream(t *testing.T, p *place, overTCP bool, do behaviour) *upstream {
	t.Helper()
	u := &upstream{asked: map[string]int{}}
	make := func() (err error) {
		if u.udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err == nil && overTCP {
			u.tcp, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: u.udp.LocalAddr().(*net.UDPAddr).Port})
		}
		return err
	}
	if p != nil {
		p.inside(make)
	} else {
		check(t, make())
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			buf := [maxMessage]byte{}
			n, from, err := u.udp.ReadFromUDPAddrPort(buf[:])
			if err != nil {
				return
			}
			u.count("udp")
			running.Go(func() { do("udp", buf[:n], func(b []byte) { _, _ = u.udp.WriteToUDPAddrPort(b, from) }) })
		}
	})
	if overTCP {
		running.Go(func() {
			for {
				c, err := u.tcp.Accept()
				if err != nil {
					return
				}
				raw, err := next(c)
				if err == nil {
					u.count("tcp")
					do("tcp", raw, func(b []byte) { _, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)) })
				}
				_ = c.Close()
			}
		})
	}
	t.Cleanup(func() {
		_ = u.udp.Close()
		if overTCP {
			_ = u.tcp.Close()
		}
		running.Wait()
	})
	return u
}

func (u *upstream) count(network string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked[network]++
}

func (u *upstream) times(network string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked[network]
}

// from is the server as seen from a container, or from the host.
func (u *upstream) from(host bool) netproto.Server {
	return netproto.Server{Address: u.udp.LocalAddr().(*net.UDPAddr).AddrPort(), Host: host}
}

// text answers a question with TXT records.
func text(t *testing.T, asked []byte, lines ...string) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(asked); err != nil {
		t.Errorf("a question that cannot be read: %v", err)
		return nil
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, l := range lines {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.TXTResource{TXT: []string{l}},
		})
	}
	raw, err := m.Pack()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		t.Errorf("packing an answer: %v", err)
	}
	return raw
}

// code answers a question with an error.
func code(t *testing.T, asked []byte, rcode byte) []byte {
	raw := text(t, asked)
	raw[3] |= rcode
	return raw
}

// saying is a server with one answer for everybody.
func saying(t *testing.T, what string) behaviour {
	return func(_ string, asked []byte, say func([]byte)) { say(text(t, asked, what)) }
}

func silence(string, []byte, func([]byte)) {}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	return string(b)
}
