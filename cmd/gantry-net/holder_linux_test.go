package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/names"
	"github.com/gantry-engine/gantry/internal/netproto"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var everywhere = netip.IPv4Unspecified()

func tcp(port uint16) netproto.Want { return netproto.Want{Proto: "tcp", Host: everywhere, Port: port} }

func reserved(t *testing.T, h *holder, owner string, wants ...netproto.Want) []uint16 {
	t.Helper()
	a := h.reserve(owner, wants)
	if a.Taken != nil || a.Error != "" || len(a.Ports) != len(wants) {
		t.Fatalf("%s wants %+v: %+v", owner, wants, a)
	}
	return a.Ports
}

func free(t *testing.T, port int, want bool) {
	t.Helper()
	l, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
	if err == nil {
		_ = l.Close()
	}
	if (err == nil) != want {
		t.Errorf("port %d free: %v, want %v", port, err, want)
	}
}

func TestAllOrNone(t *testing.T) {
	h := newHolder()
	reserved(t, h, "a", tcp(9000))
	a := h.reserve("b", []netproto.Want{tcp(9001), tcp(9000)})
	if a.Taken == nil || a.Taken.Index != 1 || a.Taken.Port != 9000 || a.Taken.Owner != "a" {
		t.Fatalf("a port twice: %+v", a)
	}
	free(t, 9001, true)
	if a := h.reserve("b", []netproto.Want{tcp(9002), tcp(9002)}); a.Taken == nil || a.Taken.Owner != "b" {
		t.Errorf("one container, one port twice: %+v", a)
	}
	free(t, 9002, true)
	reserved(t, h, "a", tcp(9000)) // again: nothing changes
	free(t, 9000, false)
	h.release("a")
	h.release("a")
	free(t, 9000, true)
	if !h.empty() {
		t.Errorf("left: %+v", h.ports)
	}
}

func TestAddresses(t *testing.T) {
	h := newHolder()
	on := func(host string) netproto.Want {
		return netproto.Want{Proto: "tcp", Host: netip.MustParseAddr(host), Port: 9000}
	}
	reserved(t, h, "a", on("127.0.0.1"))
	reserved(t, h, "b", on("127.0.0.2"))
	reserved(t, h, "c", netproto.Want{Proto: "udp", Host: everywhere, Port: 9000})
	if a := h.reserve("d", []netproto.Want{tcp(9000)}); a.Taken == nil || a.Taken.Owner == "" {
		t.Errorf("every address while one is taken: %+v", a)
	}
	if a := h.reserve("d", []netproto.Want{on("192.0.2.1")}); a.Taken == nil || a.Taken.Cause != "cannot assign requested address" {
		t.Errorf("an address that the host has not: %+v", a)
	}
	h.keep([]string{"b"})
	reserved(t, h, "d", on("127.0.0.1"))
	if a := h.reserve("e", []netproto.Want{on("127.0.0.2")}); a.Taken == nil || a.Taken.Owner != "b" {
		t.Errorf("what was to be kept: %+v", a)
	}
	h.keep(nil)
	if !h.empty() {
		t.Errorf("left: %+v", h.ports)
	}
}

func TestRangesAndEphemeralPorts(t *testing.T) {
	l, err := net.Listen("tcp4", ":9101")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40003"), 0); err != nil {
		t.Fatal(err)
	}
	h := newHolder()
	defer h.keep(nil)
	span := netproto.Want{Proto: "tcp", Host: everywhere, Port: 9100, End: 9102}
	if got := reserved(t, h, "a", span, span); got[0] != 9100 || got[1] != 9102 {
		t.Errorf("a range gave %v", got)
	}
	if a := h.reserve("b", []netproto.Want{span}); a.Taken == nil || a.Taken.Port != 9102 {
		t.Errorf("a full range: %+v", a)
	}
	for _, want := range []uint16{40000, 40001, 40002} {
		if got := reserved(t, h, fmt.Sprint(want), tcp(0)); got[0] != want {
			t.Errorf("ephemeral port %d, want %d", got[0], want)
		}
	}
	h.release("40001")
	if got := reserved(t, h, "x", tcp(0)); got[0] != 40003 {
		t.Errorf("ephemeral ports do not go round: %d", got[0])
	}
	if got := reserved(t, h, "y", tcp(0)); got[0] != 40001 {
		t.Errorf("what was given back: %d", got[0])
	}
	if a := h.reserve("z", []netproto.Want{tcp(0)}); a.Taken == nil || a.Taken.Cause != "all ephemeral ports are in use" {
		t.Errorf("no ephemeral port left: %+v", a)
	}
}

func TestCarriesIPv6(t *testing.T) {
	echo, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { // half-closed connections go on: it answers after the end of the question
				defer c.Close()
				b, _ := io.ReadAll(c)
				_, _ = c.Write(append([]byte("re:"), b...))
			}()
		}
	}()
	h := newHolder()
	w := tcp(9200)
	w.IPv6, w.Target = true, netip.MustParseAddrPort(echo.Addr().String())
	reserved(t, h, "a", w)
	c, err := net.Dial("tcp6", "[::1]:9200")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	big := strings.Repeat("x", 1<<20)
	_, _ = io.WriteString(c, big)
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "re:"+big {
		t.Errorf("%d bytes came back, %v; want %d", len(b), err, len(big)+3)
	}
	h.release("a")
	if c, err := net.Dial("tcp6", "[::1]:9200"); err == nil {
		_ = c.Close()
		t.Error("a released port is still carried")
	}
}

func TestProtocol(t *testing.T) {
	path := filepath.Join(testkit.ShortTempDir(t), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	resolver, err := names.New()
	if err != nil {
		t.Fatal(err)
	}
	defer resolver.Close()
	s := &server{held: newHolder(), names: resolver, changed: make(chan struct{}, 1)}
	go s.accept(l)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(c)
	say := func(line string) (a netproto.Answer) {
		t.Helper()
		if _, err := io.WriteString(c, line+"\n"); err != nil {
			t.Fatal(err)
		}
		if !in.Scan() {
			t.Fatalf("no answer to %s: %v", line, in.Err())
		}
		if err := json.Unmarshal(in.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := say(`{"op":"dance"}`); !strings.Contains(a.Error, "dance") {
		t.Errorf("an unknown request: %+v", a)
	}
	for _, want := range []string{`{"proto":"tcp","port":1}`, `{"proto":"dccp","host":"::1","port":1}`, `{"proto":"","host":"0.0.0.0","port":1}`} {
		if a := say(`{"op":"reserve","owner":"a","wants":[` + want + `]}`); !strings.Contains(a.Error, "cannot be held") {
			t.Errorf("%s: %+v", want, a)
		}
	}
	if a := say(`{"op":`); !strings.Contains(a.Error, "not JSON") {
		t.Errorf("half a request: %+v", a)
	}
	if a := say(`{"op":"reserve","owner":"a","wants":[{"proto":"tcp","host":"0.0.0.0","port":9300}]}`); len(a.Ports) != 1 || a.Ports[0] != 9300 {
		t.Errorf("reserve: %+v", a)
	}
	idle := make(chan struct{})
	go func() { s.waitUntilIdle(10 * time.Millisecond); close(idle) }()
	if a := say(`{"op":"release","owner":"a"}`); a.Error != "" {
		t.Errorf("release: %+v", a)
	}
	select {
	case <-idle:
		t.Error("it ended under a client")
	case <-time.After(50 * time.Millisecond):
	}
	_ = c.Close()
	select {
	case <-idle:
	case <-time.After(10 * time.Second):
		t.Error("it does not end although it holds nothing")
	}
}

func TestFamilies(t *testing.T) {
	h := newHolder()
	target := netip.MustParseAddrPort("127.0.0.1:9")
	want := func(owner, host string, ipv6 bool) netproto.Answer {
		return h.reserve(owner, []netproto.Want{{Proto: "tcp", Host: netip.MustParseAddr(host), Port: 9377, Target: target, IPv6: ipv6}})
	}
	for _, c := range []struct {
		owner, host string
		ipv6        bool
		taken       string
	}{
		{"four", "0.0.0.0", false, ""}, {"six", "::", false, ""}, {"other", "::1", false, "six"}, {"every", "0.0.0.0", true, "four"},
	} {
		a := want(c.owner, c.host, c.ipv6)
		if c.taken == "" && (a.Taken != nil || a.Error != "") || c.taken != "" && (a.Taken == nil || a.Taken.Owner != c.taken && a.Taken.Owner != "six") {
			t.Errorf("%s on %s: %+v", c.owner, c.host, a)
		}
	}
	h.release("four")
	if a := want("every", "0.0.0.0", true); a.Taken == nil || a.Taken.Owner != "six" {
		t.Errorf("every address, while somebody has IPv6's: %+v", a)
	}
	h.release("six")
	if a := want("every", "0.0.0.0", true); len(a.IPv6) != 1 || !a.IPv6[0] {
		t.Errorf("every address: %+v", a)
	}
	if a := h.reserve("sctp", []netproto.Want{{Proto: "sctp", Host: netip.IPv4Unspecified(), Port: 9377, Target: target, IPv6: true}}); len(a.Ports) != 1 {
		t.Errorf("the same port of SCTP: %+v", a)
	}
	if a := h.reserve("again", []netproto.Want{{Proto: "sctp", Host: netip.MustParseAddr("127.0.0.1"), Port: 9377, Target: target}}); a.Taken == nil || a.Taken.Owner != "sctp" {
		t.Errorf("and again: %+v", a)
	}
	h.keep(nil)
}
