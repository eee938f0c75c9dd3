package networks

import (
	"context"
	"fmt"

	"github.com/gantry-engine/gantry/internal/service/networks/files"
	"github.com/gantry-engine/gantry/internal/spec"
)

// resolver knows whom containers ask for names.
type resolver struct {
	flags files.Resolv // the daemon's --dns flags
	conf  func() ([]byte, error)
}

// Resolver implements containers.Networks. The daemon's --dns flags go before the
// host's resolv.conf. Containers in the host's namespace reach the host's loopback
// servers, so these stay in for them.
func (r *resolver) Resolver(_ context.Context, endpoints []spec.Endpoint) (servers, search, options []string, err error) {
	text, err := r.conf()
	if err != nil {
		text = nil // as on a host without a resolver: the fall-back servers remain
	}
	host := files.ParseResolv(text)
	loopbackToo := false
	for _, ep := range endpoints {
		loopbackToo = loopbackToo || ep.Driver == "host"
	}
	pick := func(flags, fromHost []string) []string {
		if len(flags) > 0 {
			return flags
		}
		return fromHost
	}
	servers = r.flags.Servers
	if len(servers) == 0 {
		servers = files.Usable(host.Servers, loopbackToo)
	}
	if len(servers) == 0 {
		return nil, nil, nil, fmt.Errorf("no DNS server is known: name one with --dns")
	}
	return servers, pick(r.flags.Search, host.Search), pick(r.flags.Options, host.Options), nil
}
