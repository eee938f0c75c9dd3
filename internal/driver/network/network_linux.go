// Package network puts the network drivers of one engine together: bridge, host,
// none, the firewall and the published ports. Each lives in a folder below.
package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/gantry-engine/gantry/internal/driver/network/bridge"
	"github.com/gantry-engine/gantry/internal/driver/network/firewall"
	"github.com/gantry-engine/gantry/internal/driver/network/gantrynet"
	"github.com/gantry-engine/gantry/internal/driver/network/host"
	"github.com/gantry-engine/gantry/internal/driver/network/null"
	"github.com/gantry-engine/gantry/internal/driver/network/publish"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Config is what dockerd's flags and the engine's folders decide.
type Config struct {
	ExecRoot  string // where gantry-net's socket goes
	GantryNet string // path of the executable

	// Bridge is the default network's interface; empty is gantry0, "none" switches the
	// network off. External says that the user named it with --bridge.
	Bridge   string
	External bool

	Address   netip.Prefix // --bip
	FixedCIDR netip.Prefix // --fixed-cidr
	Gateway   netip.Addr   // --default-gateway
	HostIP    netip.Addr   // --ip
	MTU       int          // --mtu, 0 is 1500
	NoICC     bool         // --icc=false
	NoMasq    bool         // --ip-masq=false

	NoIPTables      bool   // --iptables=false: no packet rules at all
	NoIPForward     bool   // --ip-forward=false
	ForwardNoDrop   bool   // --ip-forward-no-drop
	Table           string // nftables table; empty is "gantry", or one named after another bridge
	PoolSize        int    // namespaces kept ready for the bridge, more under load; 0 keeps none
	NoIPv6Forwarder bool   // do not carry IPv6 connections to published ports
}

// DefaultBridge is the default network's interface.
const DefaultBridge = "gantry0"

// New opens what the drivers need and gives the service's ports; Events is left to
// the caller. The bridge is made at once, as the packet rules name its subnet.
func New(cfg Config) (networks.Deps, error) {
	if cfg.Bridge == "" {
		cfg.Bridge = DefaultBridge
	}
	if cfg.Table == "" {
		cfg.Table = "gantry"
		if cfg.Bridge != DefaultBridge && cfg.Bridge != "none" {
			cfg.Table += "_" + cfg.Bridge
		}
	}
	client := publish.NewClient(gantrynet.New(cfg.GantryNet, filepath.Join(cfg.ExecRoot, "gantry-net.sock")))
	pub := publish.Config{HostIP: cfg.HostIP, IPv6: !cfg.NoIPv6Forwarder}
	deps := networks.Deps{Host: host.New(), None: null.New(cfg.PoolSize)}
	if cfg.Bridge == "none" {
		deps.Ports = publish.New(pub, nil, client)
		return deps, nil
	}
	br := bridge.New(bridge.Config{
		Name: cfg.Bridge, External: cfg.External, Address: cfg.Address, Range: cfg.FixedCIDR, Gateway: cfg.Gateway,
		MTU: cfg.MTU, NoICC: cfg.NoICC, NoMasq: cfg.NoMasq, HostIP: cfg.HostIP, LocalPorts: !cfg.NoIPTables, PoolSize: cfg.PoolSize,
	})
	deps.Bridge = br
	if err := br.Prepare(); err != nil {
		return networks.Deps{}, err
	}
	switchedOn, err := enableForwarding(cfg)
	if err != nil || cfg.NoIPTables {
		deps.Ports = publish.New(pub, nil, client)
		return deps, err
	}
	fw, err := firewall.New(firewall.Config{Table: cfg.Table, NoRouter: switchedOn && !cfg.ForwardNoDrop})
	if err != nil {
		return networks.Deps{}, err
	}
	if err := fw.AddNetwork(firewall.Network{
		Bridge: cfg.Bridge, V4: []netip.Prefix{br.Subnet().Masked()}, Masquerade: !cfg.NoMasq, ICC: !cfg.NoICC,
	}); err != nil {
		return networks.Deps{}, errors.Join(err, fw.Close(false))
	}
	deps.Ports = publish.New(pub, fw, client)
	return deps, nil
}

// enableForwarding lets the host pass packets between interfaces, and tells whether
// this engine is the one who did, now or before a restart: a file in the exec root
// remembers it until the next boot, as long as the setting itself lasts.
func enableForwarding(cfg Config) (switchedOn bool, err error) {
	const name = "net.ipv4.ip_forward"
	if cfg.NoIPForward {
		return false, nil
	}
	now, err := netlink.ReadSysctl(name)
	if err != nil {
		return false, err
	}
	marker := filepath.Join(cfg.ExecRoot, "ip-forward-switched-on")
	if now != "0" {
		_, err := os.Stat(marker)
		return err == nil, nil
	}
	if err := netlink.WriteSysctl(name, "1"); err != nil {
		return false, errors.Join(fmt.Errorf("containers would not reach other hosts, start with --ip-forward=false to accept that"), err)
	}
	return true, os.WriteFile(marker, nil, 0o600)
}
