package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// holder is the table of reserved ports.
type holder struct {
	mu    sync.Mutex
	ports map[string][]*reservation // by owner
	last  uint16                    // the ephemeral port given out last
}

// reservation is one bound port.
type reservation struct {
	want  netproto.Want // with the port as bound
	asked netproto.Want
	ipv6  bool // at every address of IPv6, too
	open  []io.Closer
}

func newHolder() *holder { return &holder{ports: map[string][]*reservation{}} }

func (h *holder) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ports) == 0
}

// reserve binds all wants for owner, or none. What owner holds already stays.
func (h *holder) reserve(owner string, wants []netproto.Want) (a netproto.Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var fresh []*reservation
	for i, w := range wants {
		if r := h.has(owner, w); r != nil && !slices.Contains(fresh, r) {
			a.Ports, a.IPv6 = append(a.Ports, r.want.Port), append(a.IPv6, r.ipv6)
			continue
		}
		r, taken, err := h.bind(w)
		if err != nil {
			for _, f := range fresh {
				f.close()
			}
			h.ports[owner] = slices.DeleteFunc(h.ports[owner], func(r *reservation) bool { return slices.Contains(fresh, r) })
			h.tidy(owner)
			if taken != nil {
				taken.Index = i
				return netproto.Answer{Taken: taken}
			}
			return netproto.Answer{Error: err.Error()}
		}
		fresh = append(fresh, r)
		h.ports[owner] = append(h.ports[owner], r)
		a.Ports, a.IPv6 = append(a.Ports, r.want.Port), append(a.IPv6, r.ipv6)
	}
	return a
}

func (h *holder) has(owner string, w netproto.Want) *reservation {
	for _, r := range h.ports[owner] {
		if w.Port != 0 && r.want.Port == w.Port && r.want.Proto == w.Proto && r.want.Host == w.Host && r.want.Target == w.Target {
			return r
		}
	}
	return nil
}

func (h *holder) release(owner string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.ports[owner] {
		r.close()
	}
	delete(h.ports, owner)
}

func (h *holder) keep(owners []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for owner, rs := range h.ports {
		if !slices.Contains(owners, owner) {
			for _, r := range rs {
				r.close()
			}
			delete(h.ports, owner)
		}
	}
}

func (h *holder) tidy(owner string) {
	if len(h.ports[owner]) == 0 {
		delete(h.ports, owner)
	}
}

// bind tries the wanted port, those of a range in order, or the ephemeral ones
// going round from the last.
func (h *holder) bind(w netproto.Want) (*reservation, *netproto.Taken, error) {
	if !w.Host.IsValid() || w.Proto != "tcp" && w.Proto != "udp" && w.Proto != "sctp" {
		return nil, nil, fmt.Errorf("a port of protocol %q on %s cannot be held", w.Proto, w.Host)
	}
	first, last, at := w.Port, max(w.End, w.Port), w.Port
	if w.Port == 0 {
		first, last = ephemeral()
		at = first
		if h.last >= first && h.last < last {
			at = h.last + 1
		}
	}
	var taken *netproto.Taken
	var cause error
	for range int(last) - int(first) + 1 {
		try := w
		try.Port = at
		var err error
		owner := h.ownerOf(try)
		if owner == "" {
			var open []io.Closer
			var ipv6 bool
			if open, ipv6, err = listen(try); err == nil {
				if w.Port == 0 {
					h.last = at
				}
				return &reservation{want: try, asked: w, ipv6: ipv6, open: open}, nil, nil
			}
		} else {
			err = syscall.EADDRINUSE
		}
		cause, taken = err, &netproto.Taken{Port: at, Owner: owner, Cause: words(err)}
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
			break // no other port will do better
		}
		if at++; at > last || at == 0 {
			at = first
		}
	}
	if w.Port == 0 && errors.Is(cause, syscall.EADDRINUSE) {
		taken.Owner, taken.Cause = "", "all ephemeral ports are in use"
	}
	return nil, taken, cause
}

func words(err error) string {
	var n syscall.Errno
	if errors.As(err, &n) {
		return n.Error()
	}
	return err.Error()
}

func (h *holder) ownerOf(w netproto.Want) string {
	for owner, rs := range h.ports {
		for _, r := range rs {
			if r.want.Port == w.Port && r.want.Proto == w.Proto && overlap(r.want, w) {
				return owner
			}
		}
	}
	return ""
}

// overlap tells whether two wants have an address in common.
func overlap(a, b netproto.Want) bool {
	if a.Host.Is6() == b.Host.Is6() {
		return a.Host == b.Host || a.Host.IsUnspecified() || b.Host.IsUnspecified()
	}
	return a.IPv6 || b.IPv6 // one is of IPv6 alone, the other of every address
}

func (r *reservation) close() {
	for _, c := range r.open {
		_ = c.Close()
	}
}

// ephemeral is the host's range of ports for nobody in particular.
func ephemeral() (first, last uint16) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		if _, err = fmt.Sscan(string(b), &first, &last); err == nil && first > 0 && last >= first {
			return first, last
		}
	}
	return 49153, 65535
}
