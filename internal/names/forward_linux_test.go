package names

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// brisk is for tests in which servers are silent; long enough for a busy machine.
var brisk = pace{patience: time.Second, stagger: 100 * time.Millisecond, resend: 300 * time.Millisecond}

// asking makes a container that asks servers.
func asking(t *testing.T, s *Server, id string, p *place, servers ...netproto.Server) {
	t.Helper()
	sb := onNet(id)
	sb.Servers, sb.Forward = servers, true
	p.serve(s, sb)
}

func TestServersAreAskedFromTheRightNamespace(t *testing.T) {
	s := newServer(t)
	p := newPlace(t)
	here, there := newUpstream(t, nil, true, saying(t, "host")), newUpstream(t, p, true, saying(t, "container"))
	asking(t, s, "a", p, here.from(true))
	q := newPlace(t)
	for network, want := range map[string]string{"udp": "host", "tcp": "host"} {
		if _, data := p.query(network, "x.example.", typeText, 0); strings.Join(data, " ") != want {
			t.Errorf("over %s: %v, want %s", network, data, want)
		}
	}
	if heard, err := s.Serve(netproto.Sandbox{Container: "a", Servers: []netproto.Server{there.from(false)}, Forward: true}, nil); err != nil || !heard {
		t.Fatal(heard, err)
	}
	for _, network := range []string{"udp", "tcp"} {
		if _, data := p.query(network, "X.example.", typeText, 1232); strings.Join(data, " ") != "container" {
			t.Errorf("over %s: %v, want container", network, data)
		}
	}
	asking(t, s, "b", q, there.from(false)) // the same address, in a namespace where nobody listens
	if m, _ := q.query("udp", "x.example.", typeText, 0); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("a server that is not there: %v", m.RCode)
	}
}

func TestNobodyToAsk(t *testing.T) {
	s := newServer(t)
	up := newUpstream(t, nil, false, saying(t, "secret"))
	for name, sb := range map[string]netproto.Sandbox{
		"internal": {Servers: []netproto.Server{up.from(true)}},
		"none":     {Forward: true},
		"itself":   {Forward: true, Servers: []netproto.Server{{Address: netip.MustParseAddrPort("127.0.0.11:53")}, {Address: netip.MustParseAddrPort("[::ffff:127.0.0.11]:1013")}}},
	} {
		sb.Container = name
		p := newPlace(t)
		p.serve(s, sb)
		if m, _ := p.query("udp", "x.example.", typeText, 0); m.RCode != dnsmessage.RCodeNameError {
			t.Errorf("%s: %v", name, m.RCode)
		}
	}
	if n := up.times("udp"); n != 0 {
		t.Errorf("a question left an internal network %d times", n)
	}
}

// One server after the other: what is refused, silent or out of order does not count while another one may answer.
func TestSeveralServers(t *testing.T) {
	s := newServer(t)
	s.forward.pace = brisk
	good := newUpstream(t, nil, true, saying(t, "good"))
	none := newUpstream(t, nil, false, func(_ string, asked []byte, say func([]byte)) { say(code(t, asked, rcodeName)) })
	dead := newUpstream(t, nil, false, silence)
	ill := newUpstream(t, nil, false, func(_ string, asked []byte, say func([]byte)) { say(code(t, asked, rcodeServer)) })
	brief := newUpstream(t, nil, false, func(_ string, asked []byte, say func([]byte)) {
		say(append(bytes.Clone(asked[:2]), 0x80, rcodeRefused, 0, 0, 0, 0, 0, 0, 0, 0))
	})
	gone := netproto.Server{Address: netip.MustParseAddrPort("127.0.0.1:9"), Host: true}
	unreachable := netproto.Server{Address: netip.MustParseAddrPort("192.0.2.1:53"), Host: true}
	for name, c := range map[string]struct {
		servers []netproto.Server
		rcode   dnsmessage.RCode
		data    string
	}{
		"dead, good":          {[]netproto.Server{dead.from(true), good.from(true)}, 0, "good"},
		"ill, good":           {[]netproto.Server{ill.from(true), good.from(true)}, 0, "good"},
		"refusing, good":      {[]netproto.Server{brief.from(true), good.from(true)}, 0, "good"},
		"gone, good":          {[]netproto.Server{gone, good.from(true)}, 0, "good"},
		"unreachable, good":   {[]netproto.Server{unreachable, good.from(true)}, 0, "good"},
		"dead, ill, good":     {[]netproto.Server{dead.from(true), ill.from(true), good.from(true)}, 0, "good"},
		"no such name, good":  {[]netproto.Server{none.from(true), good.from(true)}, dnsmessage.RCodeNameError, ""},
		"gone":                {[]netproto.Server{gone}, dnsmessage.RCodeServerFailure, ""},
		"refusing, ill, gone": {[]netproto.Server{brief.from(true), ill.from(true), gone}, dnsmessage.RCodeRefused, ""},
		"dead":                {[]netproto.Server{dead.from(true)}, dnsmessage.RCodeServerFailure, ""},
	} {
		p := newPlace(t)
		asking(t, s, name, p, c.servers...)
		if m, data := p.query("udp", "x.example.", typeText, 0); m.RCode != c.rcode || strings.Join(data, " ") != c.data || m.ID != 4711 {
			t.Errorf("%s: %v %q, want %v %q", name, m.RCode, data, c.rcode, c.data)
		}
	}
	if n := dead.times("udp"); n < 4 {
		t.Errorf("a datagram that was lost was not sent again: %d in all", n)
	}
	p := newPlace(t)
	asking(t, s, "over TCP", p, ill.from(true), good.from(true)) // the first one does not know TCP
	if _, data := p.query("tcp", "x.example.", typeText, 0); strings.Join(data, " ") != "good" {
		t.Errorf("over TCP: %v", data)
	}
}

// What is larger than a datagram is fetched over TCP, if the client can take it, and cut for a client that cannot.
func TestSizes(t *testing.T) {
	s := newServer(t)
	lines := make([]string, 20)
	for i := range lines {
		lines[i] = strings.Repeat(fmt.Sprint(i%10), 100)
	}
	honest := newUpstream(t, nil, true, func(network string, asked []byte, say func([]byte)) {
		whole := text(t, asked, lines...)
		if network == "udp" {
			whole = text(t, asked)
			whole[2] |= flagTruncated >> 8
		}
		say(whole)
	})
	careless := newUpstream(t, nil, true, func(_ string, asked []byte, say func([]byte)) { say(text(t, asked, lines...)) })
	for name, c := range map[string]struct {
		up             *upstream
		network        string
		size           int
		truncated      bool
		records        int
		tcp            int // how often the server was asked over it
		overUDPAtLeast int
	}{
		"plain":            {honest, "udp", 0, true, 0, 0, 1},
		"EDNS, too small":  {honest, "udp", 1232, true, 0, 1, 1},
		"EDNS":             {honest, "udp", 4096, false, 20, 1, 1},
		"TCP":              {honest, "tcp", 0, false, 20, 1, 0},
		"careless, plain":  {careless, "udp", 0, true, 0, 0, 1},
		"careless, EDNS":   {careless, "udp", 4096, false, 20, 0, 1},
		"careless and TCP": {careless, "tcp", 0, false, 20, 1, 0},
	} {
		p := newPlace(t)
		asking(t, s, name, p, c.up.from(true))
		tcp, udp := c.up.times("tcp"), c.up.times("udp")
		m, data := p.query(c.network, "x.example.", typeText, c.size)
		if m.Truncated != c.truncated || len(data) != c.records || m.RCode != 0 {
			t.Errorf("%s: truncated %v, %d records, %v", name, m.Truncated, len(data), m.RCode)
		}
		if c.truncated && (len(m.Additionals) == 1) != (c.size > 0) {
			t.Errorf("%s: additional records %v", name, m.Additionals)
		}
		if tcp, udp = c.up.times("tcp")-tcp, c.up.times("udp")-udp; tcp != c.tcp || udp != c.overUDPAtLeast {
			t.Errorf("%s: the server was asked %d times over TCP and %d over UDP", name, tcp, udp)
		}
	}
	giant := newUpstream(t, nil, true, func(network string, asked []byte, say func([]byte)) {
		if network == "tcp" {
			say(text(t, asked, "small after all"))
			return
		}
		say(append(text(t, asked, "giant"), make([]byte, 40000)...))
	})
	p := newPlace(t)
	asking(t, s, "giant", p, giant.from(true))
	if _, data := p.query("udp", "x.example.", typeText, 4096); strings.Join(data, " ") != "small after all" {
		t.Errorf("a giant's answer: %v", data)
	}
}

// Type, flags and options go through as they are, numbers and ports do not.
func TestQuestionsGoThroughUntouched(t *testing.T) {
	s := newServer(t)
	var mu sync.Mutex
	var seen [][]byte
	up := newUpstream(t, nil, false, func(_ string, asked []byte, say func([]byte)) {
		mu.Lock()
		seen = append(seen, bytes.Clone(asked))
		mu.Unlock()
		say(text(t, asked))
	})
	p := newPlace(t)
	asking(t, s, "c", p, up.from(true))
	c := p.udp()
	numbers := map[uint16]bool{}
	for kind := range dnsmessage.Type(60) {
		raw := ask(t, "Ab.Example.", kind+1, 1232)
		raw[3] |= flagChecking
		opt := append([]byte{0, 10, 0, 8}, "12345678"...) // a cookie, which is the server's business
		binary.BigEndian.PutUint16(raw[len(raw)-2:], uint16(len(opt)))
		raw = append(raw, opt...)
		send(t, c, raw)
		if got := receive(t, c); !bytes.Equal(got[:2], raw[:2]) || !bytes.Equal(got[12:22], raw[12:22]) {
			t.Fatalf("asked %x, answered %x", raw, got)
		}
		mu.Lock()
		got := seen[len(seen)-1]
		mu.Unlock()
		numbers[binary.BigEndian.Uint16(got)] = true
		if !bytes.Equal(got[2:], raw[2:]) {
			t.Fatalf("asked %x, the server saw %x", raw, got)
		}
	}
	if len(numbers) < 55 {
		t.Errorf("%d different numbers for 60 questions", len(numbers))
	}
}

// Who does not know number and question cannot answer; who guesses too much makes us ask over TCP, where guessing is harder.
func TestLies(t *testing.T) {
	s := newServer(t)
	s.forward.pace = brisk
	lie := func(asked []byte, i int) []byte {
		switch i % 5 {
		case 0: // another number
			b := text(t, asked, "lie")
			b[1]++
			return b
		case 1: // another question
			return text(t, bytes.Replace(asked, []byte("\x07example"), []byte("\x07exbmple"), 1), "lie")
		case 2: // no answer at all
			return bytes.Clone(asked)
		case 3:
			return nil
		default:
			return asked[:13]
		}
	}
	liar := newUpstream(t, nil, true, func(network string, asked []byte, say func([]byte)) {
		if network == "tcp" {
			say(text(t, asked, "truth over TCP"))
			return
		}
		for i := range maxLies {
			say(lie(asked, i))
		}
		say(text(t, asked, "truth"))
	})
	worse := newUpstream(t, nil, true, func(network string, asked []byte, say func([]byte)) {
		if network == "tcp" {
			say(text(t, asked, "truth over TCP"))
			return
		}
		for i := range 10 * maxLies {
			say(lie(asked, i))
		}
	})
	liesOverTCP := newUpstream(t, nil, true, func(_ string, asked []byte, say func([]byte)) { say(lie(asked, 1)) })
	p := newPlace(t)
	asking(t, s, "a", p, liar.from(true))
	if _, data := p.query("udp", "x.example.", typeText, 0); strings.Join(data, " ") != "truth" {
		t.Errorf("among a few lies: %v", data)
	}
	p = newPlace(t)
	asking(t, s, "b", p, worse.from(true))
	if _, data := p.query("udp", "x.example.", typeText, 0); strings.Join(data, " ") != "truth over TCP" {
		t.Errorf("among many lies: %v", data)
	}
	p = newPlace(t)
	asking(t, s, "c", p, liesOverTCP.from(true))
	if m, data := p.query("tcp", "x.example.", typeText, 0); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("lies over TCP: %v %v", m.RCode, data)
	}
	// somebody else than the server, at the same host
	stranger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	defer stranger.Close()
	var forged atomic.Bool
	server := make(chan *upstream, 1)
	up := newUpstream(t, nil, false, func(_ string, asked []byte, say func([]byte)) {
		from := lastClient(t, <-server)
		if from.IsValid() {
			_, _ = stranger.WriteToUDPAddrPort(text(t, asked, "forged"), from)
			forged.Store(true)
		}
		say(text(t, asked, "truth"))
	})
	server <- up
	p = newPlace(t)
	asking(t, s, "d", p, up.from(true))
	if _, data := p.query("udp", "x.example.", typeText, 0); strings.Join(data, " ") != "truth" || !forged.Load() {
		t.Errorf("with a forged answer from another port: %v (sent: %v)", data, forged.Load())
	}
}

// lastClient finds the socket that asks a server: the one that is connected to its port.
func lastClient(t *testing.T, up *upstream) netip.AddrPort {
	t.Helper()
	table := readFile(t, "/proc/thread-self/net/udp")
	want := fmt.Sprintf("0100007F:%04X", up.udp.LocalAddr().(*net.UDPAddr).Port)
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) > 3 && f[2] == want {
			var port uint16
			_, err := fmt.Sscanf(f[1], "0100007F:%X", &port)
			check(t, err)
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		}
	}
	return netip.AddrPort{}
}

// Who asks again what is being asked waits with the first; each gets an answer under its own number.
func TestTheSameQuestionIsAskedOnce(t *testing.T) {
	s := newServer(t)
	release := make(chan struct{})
	up := newUpstream(t, nil, false, func(_ string, asked []byte, say func([]byte)) {
		<-release
		say(text(t, asked, "answer"))
	})
	p := newPlace(t)
	asking(t, s, "c", p, up.from(true))
	c := p.udp()
	const n = 100
	for i := range n {
		raw := ask(t, "x.example.", typeText, 0)
		binary.BigEndian.PutUint16(raw, uint16(i))
		send(t, c, raw)
	}
	await(t, "all to wait", func() bool {
		s.forward.mu.Lock()
		defer s.forward.mu.Unlock()
		return s.sockets["c"].queue.waiting == n
	})
	close(release)
	got := map[uint16]bool{}
	for range n {
		raw := receive(t, c)
		if _, data := read(t, raw); strings.Join(data, " ") != "answer" {
			t.Fatalf("%v", data)
		}
		got[binary.BigEndian.Uint16(raw)] = true
	}
	if len(got) != n || up.times("udp") > 3 {
		t.Errorf("%d answers, the server was asked %d times", len(got), up.times("udp"))
	}
}

// A container has a bounded number of questions upstream. The next is refused at once; its own names, and its
// neighbours, are answered as ever.
func TestTooManyQuestions(t *testing.T) {
	s := newServer(t)
	s.forward.pace = brisk
	dead := newUpstream(t, nil, false, silence)
	up := newUpstream(t, nil, false, saying(t, "answer"))
	p, neighbour := newPlace(t), newPlace(t)
	asking(t, s, "web", p, dead.from(true))
	asking(t, s, "neighbour", neighbour, up.from(true))
	joined(s, "web", "10.0.0.1")
	c := p.udp()
	for i := range waitingEach {
		send(t, c, ask(t, fmt.Sprintf("x%d.example.", i), typeText, 0))
	}
	await(t, "all to wait", func() bool {
		s.forward.mu.Lock()
		defer s.forward.mu.Unlock()
		return s.sockets["web"].queue.waiting == waitingEach && s.forward.waiting == waitingEach-waitingAssured
	})
	c2 := p.udp()
	if m, _ := exchange(t, c2, ask(t, "one.more.example.", typeText, 0)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("one more: %v", m.RCode)
	}
	if _, data := exchange(t, c2, ask(t, "web.", typeAddress, 0)); len(data) != 1 {
		t.Errorf("a name of ours: %v", data)
	}
	if _, data := neighbour.query("udp", "x.example.", typeText, 0); strings.Join(data, " ") != "answer" {
		t.Errorf("a neighbour's question: %v", data)
	}
	s.forward.mu.Lock()
	s.forward.waiting += waitingAll // as if many more containers did so
	s.forward.mu.Unlock()
	if _, data := neighbour.query("udp", "y.example.", typeText, 0); strings.Join(data, " ") != "answer" {
		t.Errorf("a neighbour's question while everything is full: %v", data)
	}
	s.forward.mu.Lock()
	s.forward.waiting -= waitingAll
	s.forward.mu.Unlock()
	for range waitingEach { // they are all told in the end
		if m, _ := read(t, receive(t, c)); m.RCode != dnsmessage.RCodeServerFailure {
			t.Fatalf("%v", m.RCode)
		}
	}
	await(t, "the queue to be empty", func() bool {
		s.forward.mu.Lock()
		defer s.forward.mu.Unlock()
		q := &s.sockets["web"].queue
		return s.forward.waiting == 0 && q.waiting == 0 && len(q.pending) == 0 && len(q.about) == 0
	})
}

// Two containers that forward to each other, changing the message each time, do not multiply a question.
func TestLoops(t *testing.T) {
	s := newServer(t)
	s.forward.pace = brisk
	p := newPlace(t)
	c := p.udp()
	up := newUpstream(t, p, false, func(_ string, asked []byte, _ func([]byte)) {
		for i := range 3 { // a forwarder that asks whom it was told to ask: us; several times, with an option of its own
			raw := append(bytes.Clone(asked), 0, 0, typeOPT, 4, byte(i), 0, 0, 0, 0, 0, 0)
			if asked[11] != 0 {
				raw = bytes.Clone(asked)
				raw[len(raw)-7]++
			}
			raw[11] = 1
			_, _ = c.Write(raw)
		}
	})
	asking(t, s, "c", p, up.from(false))
	asker := p.udp()
	if m, _ := exchange(t, asker, ask(t, "x.example.", typeText, 0)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("a loop ends with %v", m.RCode)
	}
	if n := up.times("udp"); n > sameName*4 {
		t.Errorf("the question came round %d times", n)
	}
	if up.times("udp") < sameName {
		t.Errorf("no loop was made: %d questions", up.times("udp"))
	}
}

func TestUpstreamOverIPv6(t *testing.T) {
	s := newServer(t)
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	check(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(text(t, buf[:n], "six"), from)
		}
	}()
	defer func() { _ = conn.Close(); <-done }()
	p := newPlace(t)
	asking(t, s, "c", p,
		netproto.Server{Address: netip.AddrPortFrom(netip.MustParseAddr("fe80::1%nowhere"), 53), Host: true},
		netproto.Server{Address: conn.LocalAddr().(*net.UDPAddr).AddrPort(), Host: true})
	if _, data := p.query("udp", "x.example.", typeText, 0); strings.Join(data, " ") != "six" {
		t.Errorf("%v", data)
	}
}

// What waits when the server closes is let go.
func TestCloseWhileAsking(t *testing.T) {
	s, err := New()
	check(t, err)
	up := newUpstream(t, nil, true, func(string, []byte, func([]byte)) { time.Sleep(10 * time.Millisecond) })
	p := newPlace(t)
	asking(t, s, "c", p, up.from(true), up.from(true))
	for i := range 50 {
		send(t, p.udp(), ask(t, fmt.Sprintf("x%d.example.", i), typeText, 0))
	}
	c := p.tcp()
	send(t, c, ask(t, "y.example.", typeText, 0))
	await(t, "questions to come", func() bool { return up.times("udp") > 0 })
	s.Close()
}
