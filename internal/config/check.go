package config

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gantry-engine/gantry/internal/trust/policy"
)

// check finds values that cannot be meant. It names the option and what would do.
func (c *Config) check() error {
	oneOf := func(what, got string, of ...string) error {
		if slices.Contains(of, got) {
			return nil
		}
		return invalid("invalid %s: %s: one of %s is needed", what, got, strings.Join(of, ", "))
	}
	errs := []error{
		oneOf("logging level", c.LogLevel, "debug", "info", "warn", "error", "fatal", "trace", "panic"),
		oneOf("log format", c.LogFormat, "text", "json"),
		oneOf("default cgroup namespace mode", c.DefaultCgroupnsMode, "private", "host"),
		oneOf("default ipc mode", c.DefaultIpcMode, "private", "shareable"),
		oneOf("default runtime", c.DefaultRuntime, "gantry", "runc", "io.containerd.runc.v2"),
	}
	switch c.StorageDriver {
	case "", "copy":
	case "overlay2", "overlay", "overlayfs":
		c.StorageDriver = "overlay"
	case "vfs":
		c.StorageDriver = "copy"
	default:
		errs = append(errs, invalid("unknown storage-driver %q: \"overlayfs\" (also called \"overlay2\") and \"copy\" (also called \"vfs\") are there", c.StorageDriver))
	}
	if c.DefaultStopTimeout < -1 {
		errs = append(errs, invalid("invalid default-stop-timeout %d: a number of seconds is needed", c.DefaultStopTimeout))
	}
	for _, o := range c.ExecOpts {
		k, v, ok := cut(o)
		if !ok || k != "native.cgroupdriver" || v != "cgroupfs" && v != "systemd" {
			errs = append(errs, invalid("invalid exec-opt %q: native.cgroupdriver=cgroupfs or native.cgroupdriver=systemd is needed", o))
		}
	}
	for name, p := range map[string]string{"data-root": c.DataRoot, "exec-root": c.ExecRoot} {
		if !filepath.IsAbs(p) {
			errs = append(errs, invalid("invalid %s %q: an absolute path is needed", name, p))
		}
	}
	for name, n := range map[string]int{"mtu": c.MTU, "shutdown-timeout": c.ShutdownTimeout + 1} {
		if n < 0 {
			errs = append(errs, invalid("invalid %s: a number that is not negative is needed", name))
		}
	}
	if c.DiskBudget < 0 {
		errs = append(errs, invalid("invalid disk-budget %d: a size such as 40GB is needed", c.DiskBudget))
	}
	if c.MaxDownloads < 0 || c.MaxUploads < 0 || c.MaxRetries <= 0 {
		errs = append(errs, invalid("invalid max-concurrent-downloads, max-concurrent-uploads or max-download-attempts: positive numbers are needed"))
	}
	if c.ImagePolicy != "" {
		if !filepath.IsAbs(c.ImagePolicy) {
			errs = append(errs, invalid("invalid image-policy %q: an absolute path is needed", c.ImagePolicy))
		} else if _, err := policy.Load(c.ImagePolicy); err != nil {
			errs = append(errs, err)
		}
	}
	for _, l := range c.Labels {
		if k, _, ok := cut(l); !ok || k == "" {
			errs = append(errs, invalid("bad attribute format: %s: a daemon label is key=value", l))
		}
	}
	for _, d := range c.DNS {
		if _, err := netip.ParseAddr(d); err != nil {
			errs = append(errs, invalid("invalid dns server %q: an ip address is needed", d))
		}
	}
	for _, g := range c.HostGatewayIPs {
		if _, err := netip.ParseAddr(g); err != nil {
			errs = append(errs, invalid("invalid host-gateway-ip %q: an ip address is needed", g))
		}
	}
	if c.BIP != "" {
		p, err := netip.ParsePrefix(c.BIP)
		if err != nil || !p.Addr().Is4() {
			errs = append(errs, invalid("invalid bip %q: an IPv4 address with prefix length is needed, e.g. 172.17.0.1/16", c.BIP))
		}
	}
	for _, six := range []struct{ key, text string }{{"bip6", c.BIP6}, {"fixed-cidr-v6", c.FixedCIDR6}} {
		if p, err := netip.ParsePrefix(six.text); six.text != "" && (err != nil || !p.Addr().Is6()) {
			errs = append(errs, invalid("invalid %s %q: an IPv6 address with prefix length is needed, e.g. fd00:1::1/64", six.key, six.text))
		}
	}
	if g := c.DefaultGateway6; g.IsValid() && !g.Is6() {
		errs = append(errs, invalid("invalid default-gateway-v6 %s: an IPv6 address is needed", g))
	}
	for _, p := range c.AddressPools {
		if err := p.check(); err != nil {
			errs = append(errs, err)
		}
	}
	if c.FixedCIDR != "" {
		if p, err := netip.ParsePrefix(c.FixedCIDR); err != nil || !p.Addr().Is4() {
			errs = append(errs, invalid("invalid fixed-cidr %q: an IPv4 network is needed, e.g. 172.17.1.0/24", c.FixedCIDR))
		}
	}
	if c.BIP != "" && c.Bridge != "" {
		errs = append(errs, invalid("You specified -b & --bip, mutually exclusive options. Please specify only one"))
	}
	if c.RespectHostFirewall && !c.IPTables {
		errs = append(errs, invalid("--respect-host-firewall needs packet rules, which --iptables=false forbids: give one of them"))
	}
	if _, _, err := c.AcceptMark(); err != nil {
		errs = append(errs, err)
	}
	if !c.ICC && !c.IPTables {
		errs = append(errs, invalid("You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true"))
	}
	for i, h := range c.Hosts {
		full, err := NormalizeHost(h, c.TLS, c.DefaultHost())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.Hosts[i] = full
	}
	return errors.Join(errs...)
}

// NormalizeHost completes a --host as dockerd does: a bare path or "unix://" is a
// UNIX socket, a bare address is TCP, TCP's ports are 2375 and, with TLS, 2376.
func NormalizeHost(h string, tls bool, def string) (string, error) {
	h = strings.TrimSpace(h)
	if h == "" {
		return def, nil
	}
	proto, addr, ok := strings.Cut(h, "://")
	if !ok {
		proto, addr = "tcp", h
		if strings.HasPrefix(h, "/") {
			proto = "unix"
		}
	}
	switch proto {
	case "unix":
		if addr == "" {
			return def, nil
		}
		if !filepath.IsAbs(addr) {
			return "", invalid("invalid bind address %q: a UNIX socket needs an absolute path", h)
		}
		if len(addr) > 107 {
			return "", invalid("invalid bind address %q: the path of a UNIX socket has at most 107 bytes", h)
		}
		return "unix://" + addr, nil
	case "fd":
		return "fd://" + addr, nil
	case "npipe":
		return "", invalid("invalid bind address %q: named pipes exist on Windows only", h)
	case "tcp":
		return normalizeTCP(h, addr, tls)
	}
	return "", invalid("invalid bind address (%s): unsupported proto: %s: unix://, tcp:// or fd:// is needed", h, proto)
}

func normalizeTCP(h, addr string, tls bool) (string, error) {
	defPort := "2375"
	if tls {
		defPort = "2376"
	}
	addr = strings.TrimSuffix(addr, "/")
	if strings.ContainsAny(addr, "/?# ") {
		return "", invalid("invalid bind address (%s): an address has no path", h)
	}
	if addr == "" {
		return "tcp://" + net.JoinHostPort("localhost", defPort), nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), ""
	}
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", invalid("invalid bind address (%s): %q is no address", h, host)
		}
	}
	if strings.ContainsAny(host, "[]") {
		return "", invalid("invalid bind address (%s): %q is no address", h, host)
	}
	if host == "" {
		host = "localhost"
	}
	if port == "" {
		port = defPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return "", invalid("invalid bind address (%s): %q is no port number", h, port)
	}
	return "tcp://" + net.JoinHostPort(host, port), nil
}

// AcceptMark is --bridge-accept-fwmark: a packet mark and the bits of it that count. No mask
// is all bits; without the option the mask is 0.
func (c *Config) AcceptMark() (value, mask uint32, err error) {
	if c.BridgeAcceptFwmark == "" {
		return 0, 0, nil
	}
	mark, bits, masked := strings.Cut(c.BridgeAcceptFwmark, "/")
	v, err := strconv.ParseUint(mark, 0, 32)
	m := uint64(math.MaxUint32)
	if err == nil && masked {
		m, err = strconv.ParseUint(bits, 0, 32)
	}
	if err != nil || m == 0 {
		return 0, 0, invalid("invalid bridge-accept-fwmark %q: a mark of 32 bits is needed, or mark/mask, as 1 or 0x1/0x3", c.BridgeAcceptFwmark)
	}
	return uint32(v), uint32(m), nil
}
