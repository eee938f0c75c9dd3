package lower

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Options that both kinds have, as Docker names them.
const (
	optParent = "parent"
	optMTU    = "com.docker.network.driver.mtu"
)

// Parse reads what a network of either kind says about its parent and its largest packet.
func Parse(kind string, n *spec.Network) (Plan, error) {
	p := Plan{Kind: kind, Parent: n.Options[optParent]}
	switch v := p.Parent; {
	case v == "lo":
		return p, fmt.Errorf("loopback interface is not a valid %s parent link: %w", kind, errdefs.ErrInvalidArgument)
	case len(v) > 15 || strings.ContainsAny(v, "/: \t\n%") || v == "." || v == "..":
		return p, fmt.Errorf("invalid value for %s: %q: the name of an interface is needed, as eth0 or eth0.10: %w", optParent, v, errdefs.ErrInvalidArgument)
	}
	v, ok := n.Options[optMTU]
	if !ok || v == "" {
		return p, nil
	}
	mtu, err := strconv.Atoi(v)
	if err != nil || mtu < 0 || mtu > 65535 || mtu > 0 && (mtu < 68 || n.EnableIPv6 && mtu < 1280) {
		return p, fmt.Errorf("invalid value for %s: %q: a number of bytes is needed, 68 to 65535, with IPv6 at least 1280: %w", optMTU, v, errdefs.ErrInvalidArgument)
	}
	p.MTU = mtu
	return p, nil
}

// Choice finds what an option names among what there is; an empty value is the first. what is the option in words.
func Choice[T any](options map[string]string, key, what string, names []string, values []T) (T, error) {
	v := options[key]
	for i, name := range names {
		if v == name || v == "" && i == 0 {
			return values[i], nil
		}
	}
	var none T
	return none, fmt.Errorf("requested %s '%s' is not valid, '%s' is the default (known are %s): %w", what, v, names[0], strings.Join(names, ", "), errdefs.ErrInvalidArgument)
}
