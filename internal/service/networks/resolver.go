package networks

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gantry-engine/gantry/internal/service/networks/files"
	"github.com/gantry-engine/gantry/internal/spec"
)

// nameServer is whom containers ask that are on networks with names.
const nameServer = "127.0.0.11"

// resolver knows whom containers ask for names.
type resolver struct {
	flags files.Resolv // the daemon's --dns flags
	conf  func() ([]byte, error)
	named bool // there is a name service
}

// Resolver implements containers.Networks. The daemon's --dns flags go before the
// host's resolv.conf. Containers in the host's namespace reach the host's loopback
// servers, so these stay in for them. On networks with names there is one server, which knows them and asks the others.
func (r *resolver) Resolver(_ context.Context, endpoints []spec.Endpoint) (servers, search, options []string, err error) {
	host := r.host()
	pick := func(flags, fromHost []string) []string {
		if len(flags) > 0 {
			return flags
		}
		return fromHost
	}
	search, options = pick(r.flags.Search, host.Search), pick(r.flags.Options, host.Options)
	if r.named && named(endpoints) {
		if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			options = append(slices.Clone(options), "ndots:0")
		}
		return []string{nameServer}, search, options, nil
	}
	servers = r.flags.Servers
	if len(servers) == 0 {
		servers = files.Usable(host.Servers, hosts(endpoints))
	}
	if len(servers) == 0 {
		return nil, nil, nil, fmt.Errorf("no DNS server is known: name one with --dns")
	}
	return servers, search, options, nil
}

// host reads the host's resolv.conf; it is empty on a host without a resolver: the fall-back servers remain.
func (r *resolver) host() files.Resolv {
	text, err := r.conf()
	if err != nil {
		text = nil
	}
	return files.ParseResolv(text)
}

// upstream is whom the name service asks for a container: the servers that its user or the daemon's flags name, from the
// container's namespace, or those of the host; loopback ones of these only the host can ask.
func (r *resolver) upstream(asked []netip.Addr) (out []spec.NameServer) {
	if len(asked) == 0 {
		for _, s := range r.flags.Servers {
			if a, err := netip.ParseAddr(s); err == nil {
				asked = append(asked, a)
			}
		}
	}
	for _, a := range asked {
		out = append(out, spec.NameServer{Address: netip.AddrPortFrom(a, 53)})
	}
	if len(out) > 0 {
		return out
	}
	for _, s := range r.host().Servers {
		if a, err := netip.ParseAddr(s); err == nil { // IPv6 servers may be reached by the host alone
			out = append(out, spec.NameServer{Address: netip.AddrPortFrom(a, 53), Host: a.IsLoopback() || a.Is6()})
		}
	}
	if len(out) == 0 {
		for _, s := range files.Usable(nil, false) {
			out = append(out, spec.NameServer{Address: netip.AddrPortFrom(netip.MustParseAddr(s), 53)})
		}
	}
	return out
}
