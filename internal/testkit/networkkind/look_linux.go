package networkkind

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	nl "github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// state is what a network may leave on the host, and in the process.
type state struct {
	links, addresses, routes string
	namespaces, sockets      int // descriptors
}

func look(t *testing.T) (s state) {
	t.Helper()
	c, err := netlink.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Links()
	if err != nil {
		t.Fatal(err)
	}
	var links []string
	for _, l := range all {
		links = append(links, fmt.Sprintf("%s %s %q up %v", l.Name, l.Kind, l.Alias, l.Up))
	}
	slices.Sort(links)
	addrs, err := c.Addresses(0)
	if err != nil {
		t.Fatal(err)
	}
	routes, err := c.Routes()
	if err != nil {
		t.Fatal(err)
	}
	s = state{links: strings.Join(links, "\n"), addresses: fmt.Sprint(addrs), routes: fmt.Sprint(routes)}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		switch to, _ := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); {
		case strings.HasPrefix(to, "net:["):
			s.namespaces++
		case strings.HasPrefix(to, "socket:["):
			s.sockets++
		}
	}
	return s
}

// calm looks until what a test before this one left to the background is over.
func calm(t *testing.T) state {
	t.Helper()
	last := look(t)
	Wait(func() bool {
		now := look(t)
		same := now == last
		last = now
		return same
	})
	return last
}

// compare fails if something is left; the kernel takes some of it away a moment later.
func (s state) compare(t *testing.T) {
	t.Helper()
	if !Wait(func() bool {
		now := look(t)
		return now.links == s.links && now.addresses == s.addresses && now.routes == s.routes && now.namespaces <= s.namespaces && now.sockets <= s.sockets
	}) {
		t.Errorf("something is left.\nbefore: %+v\nnow:    %+v", s, look(t))
	}
}

// Wait looks until something is so, at most 20 seconds.
func Wait(done func() bool) bool {
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// Talk has a connection made from one namespace (nil: the host's) to an address in another, and waits for an answer.
func Talk(from, to *os.File, at netip.Addr) error { return talk(from, to, at, 10*time.Second) }

// Silent tells whether such a connection is not made within half a second: waiting longer would prove no more.
func Silent(from, to *os.File, at netip.Addr) bool { return talk(from, to, at, time.Second/2) != nil }

// talks waits for what is promised, and for what is not no longer than for silence.
func talks(promise bool, from, to *os.File, at netip.Addr) bool {
	if promise {
		return Talk(from, to, at) == nil
	}
	return !Silent(from, to, at)
}

func talk(from, to *os.File, at netip.Addr, patience time.Duration) error {
	var l net.Listener
	if err := netlink.Do(to, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
		return err
	}); err != nil {
		return err
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.WriteString(c, "hello\n")
			_ = c.Close()
		}
	}()
	var answer []byte
	ask := func() error {
		c, err := net.DialTimeout("tcp", l.Addr().String(), patience)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		answer, err = io.ReadAll(c)
		return err
	}
	var err error
	if from == nil {
		err = ask()
	} else {
		err = netlink.Do(from, ask)
	}
	if err == nil && string(answer) != "hello\n" {
		err = errNoAnswer
	}
	return err
}

// defaults lists a namespace's default routes as "gateway dev interface".
func defaults(t *testing.T, ns *os.File) (out []string) {
	t.Helper()
	h, err := nl.NewHandleAt(netns.NsHandle(ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, family := range []int{nl.FAMILY_V4, nl.FAMILY_V6} {
		all, err := h.RouteList(nil, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if ones, _ := maskOf(r); ones != 0 || r.Type != 1 { // RTN_UNICAST
				continue
			}
			l, err := h.LinkByIndex(r.LinkIndex)
			if err != nil {
				t.Fatal(err)
			}
			gw := netip.IPv4Unspecified()
			if family == nl.FAMILY_V6 {
				gw = netip.IPv6Unspecified()
			}
			if r.Gw != nil {
				gw, _ = netip.AddrFromSlice(r.Gw)
				gw = gw.Unmap()
			}
			out = append(out, fmt.Sprintf("%s dev %s", gw, l.Attrs().Name))
		}
	}
	return out
}

func maskOf(r nl.Route) (ones, bits int) {
	if r.Dst == nil {
		return 0, 0
	}
	return r.Dst.Mask.Size()
}
