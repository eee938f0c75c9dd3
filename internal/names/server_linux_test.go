package names

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/gantry-engine/gantry/internal/netproto"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

const (
	typeAddress = dnsmessage.TypeA
	typeText    = dnsmessage.TypeTXT
)

// joined puts a container on network n with a name.
func joined(s *Server, id string, address string) {
	s.Join(netproto.Endpoint{ID: "e" + id, Network: "n", NetworkName: "net", Container: id, Names: []string{id}, Addresses: []netip.Addr{netip.MustParseAddr(address)}})
}

func onNet(id string) netproto.Sandbox {
	return netproto.Sandbox{Container: id, Networks: []string{"n"}}
}

func TestAnswersOverBothProtocols(t *testing.T) {
	s := newServer(t)
	p := newPlace(t)
	p.serve(s, onNet("web"))
	joined(s, "web", "10.0.0.1")
	for _, network := range []string{"udp", "tcp"} {
		m, data := p.query(network, "WEB.net.", typeAddress, 0)
		if strings.Join(data, " ") != "10.0.0.1" || m.Questions[0].Name.String() != "WEB.net." {
			t.Errorf("%s: %v %v", network, m.Questions, data)
		}
		if m, _ := p.query(network, "other.example.", typeAddress, 0); m.RCode != dnsmessage.RCodeNameError {
			t.Errorf("%s: a name that nobody knows, and nobody to ask: %v", network, m.RCode)
		}
	}
	// the sandbox is changed, and repeated by another gantryd: the sockets stay
	if heard, err := s.Serve(netproto.Sandbox{Container: "web"}, nil); err != nil || !heard {
		t.Errorf("changed: %v, %v", heard, err)
	}
	if m, _ := p.query("udp", "web.", typeAddress, 0); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("off the network: %v", m.RCode)
	}
	if heard, err := s.Serve(onNet("stranger"), nil); err != nil || heard || s.table.sandboxes["stranger"] != nil {
		t.Errorf("a container without sockets: %v, %v", heard, err)
	}
}

func TestReplicasOverTCP(t *testing.T) {
	s := newServer(t)
	p := newPlace(t)
	p.serve(s, onNet("c"))
	for i := range 500 {
		s.Join(netproto.Endpoint{ID: fmt.Sprint(i), Network: "n", NetworkName: "net", Container: fmt.Sprint(i), Names: []string{"all"}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}})
	}
	if m, data := p.query("udp", "all.", typeAddress, 0); !m.Truncated || len(data) == 0 {
		t.Errorf("over UDP: truncated %v, %d addresses", m.Truncated, len(data))
	}
	if m, data := p.query("tcp", "all.", typeAddress, 0); m.Truncated || len(data) != 500 {
		t.Errorf("over TCP: truncated %v, %d addresses", m.Truncated, len(data))
	}
}

// A stream's questions are answered as they can be; one that waits for a server keeps nobody.
func TestManyQuestionsInAStream(t *testing.T) {
	s := newServer(t)
	release := make(chan struct{})
	up := newUpstream(t, nil, true, func(network string, asked []byte, say func([]byte)) {
		<-release
		say(text(t, asked, network))
	})
	p := newPlace(t)
	sb := onNet("web")
	sb.Servers, sb.Forward = []netproto.Server{up.from(true)}, true
	p.serve(s, sb)
	joined(s, "web", "10.0.0.1")
	c := p.tcp()
	send(t, c, ask(t, "far.example.", typeText, 0))
	for range 10 {
		send(t, c, ask(t, "web.", typeAddress, 0))
	}
	check(t, c.CloseWrite())
	for range 10 {
		if _, data := read(t, receive(t, c)); strings.Join(data, " ") != "10.0.0.1" {
			t.Fatalf("%v", data)
		}
	}
	close(release)
	if _, data := read(t, receive(t, c)); strings.Join(data, " ") != "tcp" {
		t.Errorf("asked over TCP, the server was asked over %v", data)
	}
	if _, err := next(c); err == nil {
		t.Error("the connection is not closed after the last answer")
	}
}

func TestTooManyConnections(t *testing.T) {
	s := newServer(t)
	p, neighbour := newPlace(t), newPlace(t)
	p.serve(s, onNet("web"))
	neighbour.serve(s, onNet("neighbour"))
	joined(s, "web", "10.0.0.1")
	var open []net.Conn
	for range streamsEach {
		c := p.tcp()
		exchange(t, c, ask(t, "web.", typeAddress, 0)) // so that it is surely counted
		open = append(open, c)
	}
	c := p.tcp()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := next(c); err == nil || os.IsTimeout(err) {
		t.Errorf("connection %d is not closed: %v", streamsEach+1, err)
	}
	if _, data := neighbour.query("tcp", "web.", typeAddress, 0); len(data) != 1 {
		t.Errorf("a neighbour is told %v", data)
	}
	check(t, open[0].Close())
	await(t, "a place for another connection", func() bool {
		c := p.tcp()
		send(t, c, ask(t, "web.", typeAddress, 0))
		_, err := next(c)
		_ = c.Close()
		return err == nil
	})
	// nonsense ends a connection
	for name, raw := range map[string][]byte{"a short message": {0, 5, 1, 2, 3, 4, 5}, "a giant": {0xFF, 0xFF, 1}} {
		_, err := open[1].Write(raw)
		check(t, err)
		if _, err := next(open[1]); err == nil || os.IsTimeout(err) {
			t.Errorf("%s: %v", name, err)
		}
		open = open[1:]
	}
}

// What comes over UDP may be anything. The server answers what is a question and lives on; neighbours notice nothing.
func TestGarbageAndFloods(t *testing.T) {
	s := newServer(t)
	p, neighbour := newPlace(t), newPlace(t)
	p.serve(s, onNet("web"))
	neighbour.serve(s, onNet("neighbour"))
	joined(s, "web", "10.0.0.1")
	stop, stopped := make(chan struct{}), make(chan struct{})
	flood := p.udp()
	go func() {
		defer close(stopped)
		r := rand.New(rand.NewPCG(1, 2))
		good := ask(t, "web.", typeAddress, 1232)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			raw := slices.Clone(good)
			switch i % 3 {
			case 0:
				for range 4 {
					raw[r.IntN(len(raw))] = byte(r.Uint32())
				}
			case 1:
				raw = make([]byte, r.IntN(9000))
			}
			_, _ = flood.Write(raw)
		}
	}()
	c := neighbour.udp()
	for range 500 {
		if _, data := exchange(t, c, ask(t, "web.", typeAddress, 0)); strings.Join(data, " ") != "10.0.0.1" {
			t.Fatalf("%v", data)
		}
	}
	close(stop)
	<-stopped
	await(t, "the flooded socket to be read to its end", func() bool {
		c := p.udp()
		send(t, c, ask(t, "web.", typeAddress, 0))
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := next(c)
		return err == nil
	})
	for name, c2 := range map[string]struct {
		raw   []byte
		rcode uint16
	}{
		"cut":        {ask(t, "web.", typeAddress, 0)[:15], rcodeFormat},
		"giant":      {append(ask(t, "web.", typeAddress, 0), make([]byte, 30000)...), rcodeFormat},
		"two":        {append(ask(t, "web.", typeAddress, 0)[:5:5], append([]byte{2}, ask(t, "web.", typeAddress, 0)[6:]...)...), rcodeFormat},
		"an update":  {append(ask(t, "web.", typeAddress, 0)[:2:2], append([]byte{0x28}, ask(t, "web.", typeAddress, 0)[3:]...)...), rcodeNotImplemented},
		"a transfer": {ask(t, "web.", dnsmessage.TypeAXFR, 0), rcodeNotImplemented},
	} {
		send(t, c, c2.raw)
		if got := binary.BigEndian.Uint16(receive(t, c)[2:]) & rcodeMask; got != c2.rcode {
			t.Errorf("%s: code %d, want %d", name, got, c2.rcode)
		}
	}
}

// A client that asks much at a time is answered together, or one by one where the kernel cannot do that.
func TestManyQuestionsAtOnce(t *testing.T) {
	s := newServer(t)
	for name, mtu := range map[string]int{"usual": 65536, "small": 128} {
		p := newPlace(t)
		p.inside(func() error {
			c, err := netlink.Open(nil)
			if err != nil {
				return err
			}
			defer c.Close()
			return c.SetMTU(1, mtu)
		})
		p.serve(s, onNet(name))
		for i := range byte(8) {
			s.Join(netproto.Endpoint{ID: fmt.Sprint(i), Network: "n", NetworkName: "net", Container: fmt.Sprint(i), Names: []string{"all", fmt.Sprint("x", i)}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, i})}})
		}
		c, c2 := p.udp(), p.udp()
		missing := map[uint16]int{} // number to how many addresses are wanted
		for i := range uint16(200) {
			missing[i] = 1 + 7*int(i/4%2) // four of a size in a row
		}
		await(t, "all answers", func() bool {
			for i, n := range missing {
				raw := ask(t, fmt.Sprint("x", i%8, "."), typeAddress, 0)
				if n == 8 {
					raw = ask(t, "all.", typeAddress, 0)
				}
				binary.BigEndian.PutUint16(raw, i)
				send(t, []net.Conn{c, c2}[i%2], raw)
			}
			for _, from := range []*net.UDPConn{c, c2} {
				for {
					_ = from.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					raw, err := next(from)
					if err != nil {
						break
					}
					i := binary.BigEndian.Uint16(raw)
					if _, data := read(t, raw); missing[i] != 0 && (len(data) != missing[i] || len(data) == 1 && data[0] != fmt.Sprint("10.0.0.", i%8)) {
						t.Fatalf("%s: question %d is answered %v", name, i, data)
					}
					if from != []*net.UDPConn{c, c2}[i%2] {
						t.Fatalf("%s: question %d is answered to another client", name, i)
					}
					delete(missing, i)
				}
			}
			return len(missing) == 0
		})
	}
}

// Everything of a container that is gone is closed; the namespace is nobody's any more.
func TestGone(t *testing.T) {
	s := newServer(t)
	before := descriptors(t)
	p := newPlace(t)
	up := newUpstream(t, nil, false, silence)
	sb := onNet("web")
	sb.Servers, sb.Forward = []netproto.Server{up.from(true)}, true
	p.serve(s, sb)
	joined(s, "web", "10.0.0.1")
	stream := p.tcp()
	exchange(t, stream, ask(t, "web.", typeAddress, 0))
	send(t, p.udp(), ask(t, "far.example.", typeText, 0)) // which is being asked
	send(t, stream, ask(t, "far.example.", typeText, 0))
	await(t, "the server to be asked", func() bool { return up.times("udp") >= 2 })
	q := newPlace(t)
	q.serve(s, sb) // other sockets take the place of the first ones
	s.Gone("web")
	s.Gone("web")
	if !s.Empty() {
		t.Error("something is left of it")
	}
	_ = stream.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := next(stream)
	if err == nil { // it was told that nobody answers
		_, err = next(stream)
	}
	if err == nil || os.IsTimeout(err) {
		t.Errorf("its connection goes on: %v", err)
	}
	await(t, "what it has open to be closed", func() bool { return descriptors(t) <= before+5 }) // two namespaces, a server, two clients
	s.Keep([]string{"web"}, nil)
	if heard, err := s.Serve(sb, []*os.File{file(t, up.udp)}); err == nil || heard {
		t.Errorf("served with one socket: %v", err)
	}
}

func file(t *testing.T, c *net.UDPConn) *os.File {
	t.Helper()
	f, err := c.File()
	check(t, err)
	return f
}
