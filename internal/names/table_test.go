package names

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// ask packs a question; size is what its OPT record says, or 0 for none.
func ask(t testing.TB, name string, kind dnsmessage.Type, size int) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 4711, RecursionDesired: true})
	b.EnableCompression()
	check(t, b.StartQuestions())
	check(t, b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}))
	if size > 0 {
		check(t, b.StartAdditionals())
		var h dnsmessage.ResourceHeader
		check(t, h.SetEDNS0(size, dnsmessage.RCodeSuccess, true))
		check(t, b.OPTResource(h, dnsmessage.OPTResource{}))
	}
	raw, err := b.Finish()
	check(t, err)
	return raw
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// read unpacks an answer and gives its records' data as text.
func read(t testing.TB, raw []byte) (dnsmessage.Message, []string) {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		t.Fatalf("an answer that cannot be read: %v\n%x", err, raw)
	}
	var data []string
	for _, a := range m.Answers {
		switch r := a.Body.(type) {
		case *dnsmessage.AResource:
			data = append(data, netip.AddrFrom4(r.A).String())
		case *dnsmessage.AAAAResource:
			data = append(data, netip.AddrFrom16(r.AAAA).String())
		case *dnsmessage.PTRResource:
			data = append(data, r.PTR.String())
		case *dnsmessage.TXTResource:
			data = append(data, r.TXT...)
		default:
			t.Fatalf("a record of type %v", a.Header.Type)
		}
		if a.Header.TTL != TTL && a.Header.Type != dnsmessage.TypeTXT || a.Header.Name.String() != m.Questions[0].Name.String() {
			t.Errorf("record %+v", a.Header)
		}
	}
	return m, data
}

// town is a table with three containers on two networks.
func town() *table {
	t := newTable()
	addr := func(s ...string) (a []netip.Addr) {
		for _, x := range s {
			a = append(a, netip.MustParseAddr(x))
		}
		return a
	}
	t.serve(netproto.Sandbox{Container: "c1", Networks: []string{"n1", "n2"}, Links: []netproto.Link{
		{Network: "n1", Alias: "Store", Container: "c2"}, {Network: "n1", Alias: "c3name", Container: "c2"}, {Network: "n1", Alias: "dead", Container: "c9"},
	}})
	t.serve(netproto.Sandbox{Container: "c2", Networks: []string{"n1"}})
	t.serve(netproto.Sandbox{Container: "c3", Networks: []string{"n2"}})
	t.join(netproto.Endpoint{ID: "e1", Network: "n1", NetworkName: "Front", Container: "c1", Names: []string{"c1name", "all"}, Addresses: addr("10.1.0.1", "fd00::1")})
	t.join(netproto.Endpoint{ID: "e2", Network: "n1", NetworkName: "Front", Container: "c2", Names: []string{"C2name", "all", "dotted.alias", "CAFÉ"}, Addresses: addr("10.1.0.2")})
	t.join(netproto.Endpoint{ID: "e3", Network: "n2", NetworkName: "back.end", Container: "c3", Names: []string{"c3name", "c2name"}, Addresses: addr("10.2.0.3", "fd00:2::3")})
	return t
}

func (t *table) asked(tb testing.TB, container, name string, kind dnsmessage.Type) (string, bool) {
	tb.Helper()
	var q question
	if v := q.parse(ask(tb, name, kind, 0)); v != fine {
		tb.Fatalf("%s: verdict %d", name, v)
	}
	raw := t.answer(container, &q, make([]byte, 0, 512), 512)
	if raw == nil {
		return "", false
	}
	m, data := read(tb, raw)
	if m.ID != 4711 || !m.Response || !m.RecursionAvailable || !m.RecursionDesired || m.RCode != 0 || m.Questions[0].Name.String() != name {
		tb.Errorf("%s: %+v", name, m.Header)
	}
	slices.Sort(data)
	return strings.Join(data, " "), true
}

func TestWhatResolves(t *testing.T) {
	const a, aaaa, ptr, txt = dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypePTR, dnsmessage.TypeTXT
	tab := town()
	for _, c := range []struct {
		who, name string
		kind      dnsmessage.Type
		want      string
		known     bool
	}{
		{"c1", "c2name.", a, "10.1.0.2", true}, // of the two networks that have it, the first
		{"c3", "c2name.", a, "10.2.0.3", true},
		{"c1", "C2NaMe.fRoNt.", a, "10.1.0.2", true},
		{"c1", "c2name.back.end.", a, "10.2.0.3", true},
		{"c1", "all.", a, "10.1.0.1 10.1.0.2", true},
		{"c1", "all.", aaaa, "fd00::1", true},
		{"c1", "dotted.alias.", a, "10.1.0.2", true},
		{"c1", "dotted.alias.front.", a, "10.1.0.2", true},
		{"c1", "cafÉ.", a, "10.1.0.2", true}, // letters of ASCII alone have cases
		{"c1", "café.", a, "", false},
		{"c1", "c2name.", aaaa, "", true}, // known, without such an address
		{"c1", "c2name.", txt, "", true},
		{"c1", "c2name.", dnsmessage.TypeALL, "", true},
		{"c1", "store.", a, "10.1.0.2", true}, // links are for their own container
		{"c1", "store.front.", a, "10.1.0.2", true},
		{"c1", "c3name.", a, "10.1.0.2", true}, // and come first
		{"c2", "store.", a, "", false},
		{"c1", "dead.", a, "", false},
		{"c2", "c3name.", a, "", false}, // another network
		{"c2", "c3name.back.end.", a, "", false},
		{"c1", "front.", a, "", false},
		{"c1", ".", a, "", false},
		{"c1", "xc2name.", a, "", false},
		{"c1", "c2name.frontx.", a, "", false},
		{"c1", "c2name.x.front.", a, "", false},
		{"nobody", "c2name.", a, "", false},
		{"c1", "2.0.1.10.in-addr.arpa.", ptr, "C2name.Front.", true},
		{"c1", "3.0.2.10.IN-ADDR.arpa.", ptr, "c3name.back.end.", true},
		{"c2", "3.0.2.10.in-addr.arpa.", ptr, "", false},
		{"c1", "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa.", ptr, "c3name.back.end.", true},
		{"c1", "2.0.1.10.in-addr.arpa.", a, "", true},
	} {
		got, known := tab.asked(t, c.who, c.name, c.kind)
		if got != c.want || known != c.known {
			t.Errorf("%s asks for %s %v: %q, known %v; want %q, %v", c.who, c.name, c.kind, got, known, c.want, c.known)
		}
	}
}

// Of those that share a name each comes first at times, also for clients that ask for both families each time.
func TestTurns(t *testing.T) {
	tab := newTable()
	tab.serve(netproto.Sandbox{Container: "c", Networks: []string{"n"}})
	for i := range byte(2) {
		tab.join(netproto.Endpoint{ID: fmt.Sprint(i), Network: "n", NetworkName: "n", Container: fmt.Sprint(i), Names: []string{"all"}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, i})}})
	}
	first := map[string]int{}
	var q, both question
	q.parse(ask(t, "all.", dnsmessage.TypeA, 0))
	both.parse(ask(t, "all.", dnsmessage.TypeAAAA, 0))
	for range 200 {
		_, data := read(t, tab.answer("c", &q, make([]byte, 0, 512), 512))
		tab.answer("c", &both, make([]byte, 0, 512), 512)
		if len(data) != 2 {
			t.Fatalf("%v", data)
		}
		first[data[0]]++
	}
	if len(first) != 2 {
		t.Errorf("who came first: %v", first)
	}
}

// An update is visible at once, can be said again, and leaves nothing when it is taken back.
func TestUpdates(t *testing.T) {
	tab := town()
	want := func(who, name, want string) {
		t.Helper()
		if got, _ := tab.asked(t, who, name, dnsmessage.TypeA); got != want {
			t.Errorf("%s asks for %s: %q, want %q", who, name, got, want)
		}
	}
	again := netproto.Endpoint{ID: "e2", Network: "n1", NetworkName: "Front", Container: "c2", Names: []string{"renamed", "all"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.9")}}
	tab.join(again)
	tab.join(again)
	want("c1", "renamed.", "10.1.0.9")
	want("c2", "c2name.", "")
	want("c1", "all.", "10.1.0.1 10.1.0.9")
	want("c1", "store.", "10.1.0.9")
	if _, known := tab.asked(t, "c1", "2.0.1.10.in-addr.arpa.", dnsmessage.TypePTR); known {
		t.Error("an address that was given back is still known")
	}
	tab.serve(netproto.Sandbox{Container: "c1", Networks: []string{"n2"}}) // disconnected from n1
	want("c1", "renamed.", "")
	want("c1", "c3name.", "10.2.0.3")
	tab.leave("e2")
	tab.leave("e2")
	want("c2", "all.", "10.1.0.1")
	// a container's successor has its address before the container leaves
	tab.join(netproto.Endpoint{ID: "e4", Network: "n1", NetworkName: "front", Container: "c4", Names: []string{"heir"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}})
	tab.leave("e1")
	if got, _ := tab.asked(t, "c2", "1.0.1.10.in-addr.arpa.", dnsmessage.TypePTR); got != "heir.front." {
		t.Errorf("the heir's address belongs to %q", got)
	}
	if gone := tab.keep([]string{"c2", "c3"}, []string{"e3"}); !slices.Equal(gone, []string{"c1"}) {
		t.Errorf("not kept: %v", gone)
	}
	want("c3", "c3name.", "10.2.0.3")
	tab.gone("c3")
	tab.gone("c3")
	if tab.empty() {
		t.Error("c2 is still there")
	}
	tab.gone("c2")
	if !tab.empty() || len(tab.networks) != 0 || len(tab.members) != 0 {
		t.Errorf("left: %d sandboxes, %d endpoints, %d networks, %d members", len(tab.sandboxes), len(tab.endpoints), len(tab.networks), len(tab.members))
	}
}

// Many replicas: what fits a client's datagram, and the word that there is more; all of them over TCP.
func TestLargeAnswers(t *testing.T) {
	tab := newTable()
	tab.serve(netproto.Sandbox{Container: "c", Networks: []string{"n"}})
	for i := range 1000 {
		tab.join(netproto.Endpoint{ID: fmt.Sprint(i), Network: "n", NetworkName: "n", Container: fmt.Sprint(i), Names: []string{"all"}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}})
	}
	for _, c := range []struct{ size, limit, most int }{{0, plainSize, plainSize}, {1232, 0, 1232}, {65000, 0, MaxDatagram}, {0, maxMessage, maxMessage}} {
		var q question
		q.parse(ask(t, "all.", dnsmessage.TypeA, c.size))
		limit := c.limit
		if limit == 0 {
			limit = q.datagram()
		}
		raw := tab.answer("c", &q, make([]byte, 0, maxMessage), limit)
		m, data := read(t, raw)
		if len(raw) > c.most || m.Truncated != (c.limit != maxMessage) || len(data) < c.most/16-4 && m.Truncated || !m.Truncated && len(data) != 1000 {
			t.Errorf("size %d, limit %d: %d bytes, truncated %v, %d addresses", c.size, c.limit, len(raw), m.Truncated, len(data))
		}
		if (len(m.Additionals) == 1) != (c.size > 0) {
			t.Errorf("size %d: additional records %v", c.size, m.Additionals)
		}
	}
}

func TestNamesThatCannotTravel(t *testing.T) {
	for name, ok := range map[string]bool{
		"web.front": true, strings.Repeat("x", 63) + ".n": true, strings.Repeat("x", 64) + ".n": false, "a..b": false, "": false, strings.Repeat("abc.", 63) + "x": true, strings.Repeat("abc.", 64) + "x": false,
	} {
		if got := wire(name) != nil; got != ok {
			t.Errorf("%q can travel: %v", name, got)
		}
	}
	// a label with a dot in it is not two labels
	raw := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 12}, "c2name.front\x00\x00\x01\x00\x01"...)
	var q question
	if v := q.parse(raw); v != fine || q.exact {
		t.Errorf("a dot in a label: verdict %d, exact %v", v, q.exact)
	}
	if town().answer("c1", &q, make([]byte, 0, 512), 512) != nil {
		t.Error("a dot in a label was taken for the border of two")
	}
}

func TestReverse(t *testing.T) {
	for name, want := range map[string]string{
		"4.3.2.1.in-addr.arpa": "1.2.3.4", "255.0.0.10.in-addr.arpa": "10.0.0.255", "256.0.0.10.in-addr.arpa": "", "1.2.3.in-addr.arpa": "",
		"5.4.3.2.1.in-addr.arpa": "", ".4.3.2.1.in-addr.arpa": "", "04.3.2.1.in-addr.arpa": "", "4..2.1.in-addr.arpa": "", "in-addr.arpa": "", "4.3.2.1": "",
		strings.Repeat("0.", 31) + "f.ip6.arpa": "f000::", "1." + strings.Repeat("0.", 31) + "ip6.arpa": "::1", strings.Repeat("0.", 30) + "f.ip6.arpa": "", strings.Repeat("0.", 31) + "g.ip6.arpa": "",
	} {
		got, ok := reverse([]byte(name))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v, %v; want %q", name, got, ok, want)
		}
	}
}

func TestEDNSVersion(t *testing.T) {
	raw := ask(t, "c2name.", dnsmessage.TypeA, 1232)
	raw[len(raw)-optSize+6] = 1
	var q question
	q.parse(raw)
	m, _ := read(t, town().answer("c1", &q, make([]byte, 0, 512), 512))
	if len(m.Additionals) != 1 || m.Additionals[0].Header.ExtendedRCode(m.RCode) != 16 {
		t.Errorf("EDNS of version 1: %+v", m)
	}
}

func TestNoAllocation(t *testing.T) {
	tab := town()
	raw := ask(t, "all.front.", dnsmessage.TypeA, 1232)
	out := make([]byte, 0, MaxDatagram)
	var q question
	if n := testing.AllocsPerRun(100, func() {
		q.parse(raw)
		if tab.answer("c1", &q, out, q.datagram()) == nil {
			t.Error("no answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations for an answer", n)
	}
}

// How answering here compares with the same by a general library.
func BenchmarkAnswer(b *testing.B) {
	tab := town()
	raw := ask(b, "c2name.", dnsmessage.TypeA, 1232)
	b.Run("own", func(b *testing.B) {
		var q question
		out := make([]byte, 0, MaxDatagram)
		b.ReportAllocs()
		for b.Loop() {
			q.parse(raw)
			tab.answer("c1", &q, out, q.datagram())
		}
	})
	b.Run("dnsmessage", func(b *testing.B) {
		b.ReportAllocs()
		out := make([]byte, 0, MaxDatagram)
		for b.Loop() {
			var p dnsmessage.Parser
			h, err := p.Start(raw)
			check(b, err)
			q, err := p.Question()
			check(b, err)
			check(b, p.SkipAllQuestions())
			check(b, p.SkipAllAnswers())
			check(b, p.SkipAllAuthorities())
			opt, err := p.AdditionalHeader()
			check(b, err)
			tab.mu.RLock()
			found := tab.sandboxes["c1"].find([]byte(strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))))
			tab.mu.RUnlock()
			h.Response = true
			w := dnsmessage.NewBuilder(out, h)
			w.EnableCompression()
			check(b, w.StartQuestions())
			check(b, w.Question(q))
			check(b, w.StartAnswers())
			check(b, w.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: TTL}, dnsmessage.AResource{A: found[0].v4.As4()}))
			check(b, w.StartAdditionals())
			check(b, w.OPTResource(opt, dnsmessage.OPTResource{}))
			if _, err := w.Finish(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
