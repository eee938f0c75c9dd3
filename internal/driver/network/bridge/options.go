package bridge

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/firewall"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Options of a bridge network, as Docker names them.
const (
	optName       = "com.docker.network.bridge.name"
	optDefault    = "com.docker.network.bridge.default_bridge"
	optICC        = "com.docker.network.bridge.enable_icc"
	optMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	optHost4      = "com.docker.network.bridge.host_binding_ipv4"
	optHost6      = "com.docker.network.bridge.host_binding_ipv6"
	optMode4      = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6      = "com.docker.network.bridge.gateway_mode_ipv6"
	optInhibit4   = "com.docker.network.bridge.inhibit_ipv4"
	optTrusted    = "com.docker.network.bridge.trusted_host_interfaces"
	optMTU        = "com.docker.network.driver.mtu"
	optSource4    = "com.docker.network.host_ipv4"
	optSource6    = "com.docker.network.host_ipv6"

	// defaultGateway4 and 6 are auxiliary addresses that stand for the containers' default route, where that is not the bridge.
	defaultGateway4 = "DefaultGatewayIPv4"
	defaultGateway6 = "DefaultGatewayIPv6"
)

// options are what a network's options say.
type options struct {
	name             string // of the interface
	icc, masquerade  bool
	mode4, mode6     firewall.Mode
	noIPv4           bool // the bridge gets no IPv4 address
	trusted          []string
	mtu              int
	source4, source6 netip.Addr // what packets to the outside come from, instead of the address of the interface they leave by
}

// Interface is the name of a network's bridge on the host.
func Interface(n *spec.Network) string {
	o, _ := parse(n) // it was settled
	return o.name
}

// parse reads a network's options, and tells what is wrong with them.
func parse(n *spec.Network) (options, error) {
	o := options{name: "br-" + n.ID[:min(12, len(n.ID))], icc: true, masquerade: true, mode4: firewall.NAT, mode6: firewall.NAT, mtu: 1500}
	r := reader{values: n.Options}
	if v, ok := n.Options[optName]; ok && v != "" {
		if len(v) > 15 || strings.ContainsAny(v, "/: \t\n%") || v == "." || v == ".." {
			r.wrong(optName, v, "1 to 15 characters without spaces, slashes, colons and percent signs are needed")
		}
		o.name = v
	}
	r.flag(optICC, &o.icc)
	r.flag(optMasquerade, &o.masquerade)
	r.flag(optInhibit4, &o.noIPv4)
	r.mode(optMode4, &o.mode4, n.Internal)
	r.mode(optMode6, &o.mode6, n.Internal)
	r.address(optSource4, &o.source4, false)
	r.address(optSource6, &o.source6, true)
	var ignored netip.Addr
	r.address(optHost4, &ignored, false)
	r.address(optHost6, &ignored, true)
	if v, ok := n.Options[optMTU]; ok {
		mtu, err := strconv.Atoi(v)
		switch {
		case err != nil || mtu < 0 || mtu > 65535:
			r.wrong(optMTU, v, "a number of bytes up to 65535 is needed")
		case mtu > 0 && mtu < 1280 && n.EnableIPv6:
			r.wrong(optMTU, v, "IPv6 needs 1280 bytes or more")
		case mtu > 0 && mtu < 68:
			r.wrong(optMTU, v, "IPv4 needs 68 bytes or more")
		case mtu > 0:
			o.mtu = mtu
		}
	}
	if v := n.Options[optTrusted]; v != "" {
		o.trusted = strings.FieldsFunc(v, func(c rune) bool { return c == ':' || c == ',' })
		for _, name := range o.trusted {
			if len(name) > 15 || strings.ContainsAny(name, "/ \t\n%") {
				r.wrong(optTrusted, v, "names of interfaces, separated by colons, are needed")
			}
		}
	}
	return o, r.err
}

// reader reads options one after the other, and keeps what was wrong first.
type reader struct {
	values map[string]string
	err    error
}

func (r *reader) wrong(key, value, need string) {
	if r.err == nil {
		r.err = fmt.Errorf("invalid value for %s: %q: %s: %w", key, value, need, errdefs.ErrInvalidArgument)
	}
}

func (r *reader) flag(key string, to *bool) {
	v, ok := r.values[key]
	if !ok || v == "" {
		return
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.wrong(key, v, "true or false is needed")
		return
	}
	*to = b
}

func (r *reader) mode(key string, to *firewall.Mode, internal bool) {
	v, ok := r.values[key]
	if !ok || v == "" {
		return
	}
	m := firewall.Mode(v)
	switch {
	case !slices.Contains([]firewall.Mode{firewall.NAT, firewall.NATUnprotected, firewall.Routed, firewall.Isolated}, m):
		r.wrong(key, v, "nat, nat-unprotected, routed or isolated is needed")
	case m == firewall.Isolated && !internal:
		r.wrong(key, v, "only an internal network can be isolated")
	case internal && m != firewall.Isolated && m != firewall.NAT:
		r.wrong(key, v, "an internal network is reached by nobody: nat or isolated is needed")
	default:
		*to = m
	}
}

func (r *reader) address(key string, to *netip.Addr, ipv6 bool) {
	v, ok := r.values[key]
	if !ok || v == "" {
		return
	}
	a, err := netip.ParseAddr(v)
	if err != nil || a.Is6() != ipv6 {
		r.wrong(key, v, map[bool]string{false: "an IPv4 address is needed", true: "an IPv6 address is needed"}[ipv6])
		return
	}
	*to = a
}
