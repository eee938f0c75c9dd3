// Package files makes the text of the three files that the engine lays into every
// container: hosts, resolv.conf and hostname. Pure functions, no input or output.
package files

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// HostGateway is the address name in --add-host that stands for the host.
const HostGateway = "host-gateway"

// HostsInput is what goes into a container's /etc/hosts.
type HostsInput struct {
	Hostname, Domainname string
	// Addresses are the container's own on its networks, the first network first.
	Addresses []netip.Addr
	// Extra are the --add-host values, "name:address" or "name=address".
	Extra []string
	// Gateway replaces host-gateway.
	Gateway netip.Addr
	// NoIPv6 leaves the IPv6 names out.
	NoIPv6 bool
}

// Hosts writes /etc/hosts. Check Extra with CheckExtraHost at create.
func Hosts(in HostsInput) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n")
	if !in.NoIPv6 {
		b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	for _, e := range in.Extra {
		name, addr, err := splitExtra(e)
		if err != nil {
			return nil, err
		}
		if addr == HostGateway {
			if !in.Gateway.IsValid() {
				return nil, fmt.Errorf("unable to derive the IP value for host-gateway of extra host %s: %w", e, errdefs.ErrInvalidArgument)
			}
			addr = in.Gateway.String()
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, name)
	}
	names := in.Hostname
	if in.Domainname != "" {
		names = in.Hostname + "." + in.Domainname + " " + in.Hostname
	} else if short, _, dotted := strings.Cut(in.Hostname, "."); dotted && short != "" {
		names = in.Hostname + " " + short
	}
	for _, a := range in.Addresses {
		if a.IsValid() && names != "" {
			fmt.Fprintf(&b, "%s\t%s\n", a, names)
		}
	}
	return b.Bytes(), nil
}

// CheckExtraHost says what is wrong with an --add-host value, or nil.
func CheckExtraHost(e string) error {
	_, _, err := splitExtra(e)
	return err
}

func splitExtra(e string) (name, addr string, err error) {
	name, addr, ok := strings.Cut(e, "=")
	if !ok {
		name, addr, ok = strings.Cut(e, ":")
	}
	if !ok || name == "" || strings.ContainsAny(name, " \t\n#") {
		return "", "", fmt.Errorf("bad format for add-host: %q: name:address is needed: %w", e, errdefs.ErrInvalidArgument)
	}
	if addr == HostGateway {
		return name, addr, nil
	}
	a, err := netip.ParseAddr(strings.Trim(addr, "[]"))
	if err != nil {
		return "", "", fmt.Errorf("invalid IP address in add-host: %q: %w", addr, errdefs.ErrInvalidArgument)
	}
	return name, a.String(), nil
}

// Hostname writes /etc/hostname.
func Hostname(name string) []byte { return []byte(name + "\n") }

// Resolv is a resolv.conf's content.
type Resolv struct{ Servers, Search, Options []string }

// maxResolv bounds how much of a resolv.conf is read, in bytes.
const maxResolv = 64 << 10

// ParseResolv reads a resolv.conf; what it does not know it leaves out. The last
// search or domain line counts.
func ParseResolv(text []byte) Resolv {
	var r Resolv
	if len(text) > maxResolv {
		text = text[:maxResolv]
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if strings.HasPrefix(strings.TrimSpace(line), ";") {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if _, err := netip.ParseAddr(f[1]); err == nil {
				r.Servers = append(r.Servers, f[1])
			}
		case "search", "domain":
			r.Search = f[1:]
		case "options":
			r.Options = append(r.Options, f[1:]...)
		}
	}
	return r
}

// Usable drops servers that a container without the host's loopback, and without
// IPv6, cannot reach. If none is left, public ones stand in, as in Docker.
func Usable(servers []string, hostNamespace bool) []string {
	if hostNamespace {
		return servers
	}
	out := slices.DeleteFunc(slices.Clone(servers), func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err != nil || a.IsLoopback() || a.Is6() && !a.Is4In6()
	})
	if len(out) == 0 {
		return []string{"8.8.8.8", "8.8.4.4"}
	}
	return out
}

// ResolvConf writes /etc/resolv.conf. A search list of "." alone means none.
func ResolvConf(r Resolv) []byte {
	var b bytes.Buffer
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.Search) > 0 && !slices.Equal(r.Search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.Bytes()
}
