// Package links is what a container of the default network learns of those that it is linked to (--link): variables of the
// environment and a line of its hosts file.
package links

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// Target is a container that another one is linked to.
type Target struct {
	Alias    string // what the other one calls it
	Owner    string // the other one's name
	Name     string // its own
	Hostname string
	Address  netip.Addr
	Ports    []network.Port // that it exposes
	Env      []string
}

// Hosts is the target's line of a hosts file: its address and the names that it goes by.
func (t Target) Hosts() string {
	names := []string{t.Alias}
	for _, n := range []string{t.Hostname, t.Name} {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return t.Address.String() + "\t" + strings.Join(names, " ")
}

// Environment is the target's part of the other container's environment: name, ports and variables, each beginning
// with the alias in capitals.
func (t Target) Environment() []string {
	prefix := strings.ReplaceAll(strings.ToUpper(t.Alias), "-", "_")
	ports := slices.Clone(t.Ports)
	slices.SortFunc(ports, func(a, b network.Port) int {
		if a.Num() != b.Num() {
			return int(a.Num()) - int(b.Num())
		}
		return strings.Compare(string(b.Proto()), string(a.Proto())) // udp after tcp does not matter; tcp before sctp does
	})
	slices.SortStableFunc(ports, func(a, b network.Port) int {
		if (a.Proto() == network.TCP) != (b.Proto() == network.TCP) {
			if a.Proto() == network.TCP {
				return -1
			}
			return 1
		}
		return 0
	})
	var out []string
	add := func(key, value string) { out = append(out, prefix+key+"="+value) }
	url := func(p network.Port) string {
		return fmt.Sprintf("%s://%s", p.Proto(), netip.AddrPortFrom(t.Address, p.Num()))
	}
	if len(ports) > 0 {
		add("_PORT", url(ports[0]))
	}
	for i := 0; i < len(ports); {
		j := i
		for j+1 < len(ports) && ports[j+1].Proto() == ports[i].Proto() && ports[j+1].Num() == ports[j].Num()+1 {
			j++
		}
		if j > i { // a row of ports is also told as one
			key := fmt.Sprintf("_PORT_%d_%s", ports[i].Num(), strings.ToUpper(string(ports[i].Proto())))
			add(key+"_START", url(ports[i]))
			add(key+"_PORT_START", fmt.Sprint(ports[i].Num()))
			add(key+"_END", url(ports[j]))
			add(key+"_PORT_END", fmt.Sprint(ports[j].Num()))
		}
		i = j + 1
	}
	for _, p := range ports {
		key := fmt.Sprintf("_PORT_%d_%s", p.Num(), strings.ToUpper(string(p.Proto())))
		add(key, url(p))
		add(key+"_ADDR", t.Address.String())
		add(key+"_PORT", fmt.Sprint(p.Num()))
		add(key+"_PROTO", string(p.Proto()))
	}
	add("_NAME", "/"+t.Owner+"/"+t.Alias)
	for _, e := range t.Env {
		k, v, ok := strings.Cut(e, "=")
		if ok && k != "HOME" && k != "PATH" { // of the image, and of no use to others
			add("_ENV_"+k, v)
		}
	}
	return out
}
