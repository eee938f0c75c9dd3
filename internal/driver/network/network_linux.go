// Package network puts the network drivers of one engine together: bridge, host,
// none, the firewall and the published ports. Each lives in a folder below.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/gantry-engine/gantry/internal/driver/network/bridge"
	"github.com/gantry-engine/gantry/internal/driver/network/cni"
	"github.com/gantry-engine/gantry/internal/driver/network/firewall"
	"github.com/gantry-engine/gantry/internal/driver/network/flows"
	"github.com/gantry-engine/gantry/internal/driver/network/gantrynet"
	"github.com/gantry-engine/gantry/internal/driver/network/host"
	"github.com/gantry-engine/gantry/internal/driver/network/inside"
	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/driver/network/ipvlan"
	"github.com/gantry-engine/gantry/internal/driver/network/lower"
	"github.com/gantry-engine/gantry/internal/driver/network/macvlan"
	"github.com/gantry-engine/gantry/internal/driver/network/names"
	"github.com/gantry-engine/gantry/internal/driver/network/null"
	"github.com/gantry-engine/gantry/internal/driver/network/plugin"
	"github.com/gantry-engine/gantry/internal/driver/network/publish"
	"github.com/gantry-engine/gantry/internal/driver/network/remote"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Config is what dockerd's flags and the engine's folders decide.
type Config struct {
	ExecRoot  string // where gantry-net's socket goes
	State     string // folder for what plugins were asked to make, which outlives a reboot; empty is one in ExecRoot
	GantryNet string // path of the executable
	// Namespace opens the network namespace of a running container by its ID.
	Namespace func(container string) (*os.File, error) `json:"-"`

	// Bridge is the default network's interface; empty is gantry0, "none" switches the
	// network off. External says that the user named it with --bridge.
	Bridge   string
	External bool

	Address   netip.Prefix // --bip
	FixedCIDR netip.Prefix // --fixed-cidr
	Gateway   netip.Addr   // --default-gateway
	HostIP    netip.Addr   // --ip

	IPv6       bool         // --ipv6: the default network has it too
	Address6   netip.Prefix // --bip6
	FixedCIDR6 netip.Prefix // --fixed-cidr-v6
	Gateway6   netip.Addr   // --default-gateway-v6

	Engine   string        // tells this engine from others on the same host
	Supplies []ipam.Supply // --default-address-pool; none are the usual ones

	MTU    int  // --mtu, 0 is 1500
	NoICC  bool // --icc=false
	NoMasq bool // --ip-masq=false

	DirectRouting       bool          // --allow-direct-routing
	RespectHostFirewall bool          // --respect-host-firewall
	AcceptMark          firewall.Mark // --bridge-accept-fwmark

	NoIPTables      bool   // --iptables=false: no packet rules at all
	NoIPForward     bool   // --ip-forward=false
	ForwardNoDrop   bool   // --ip-forward-no-drop
	Table           string // nftables table; empty is "gantry", or one named after another bridge
	PoolSize        int    // namespaces kept ready for the bridge, more under load; 0 keeps none
	NoIPv6Forwarder bool   // do not carry IPv6 connections to published ports
}

// DefaultBridge is the default network's interface.
const DefaultBridge = "gantry0"

// New opens what the drivers need and gives the service's ports; Records and Events are left to
// the caller.
func New(cfg Config) (networks.Deps, error) {
	if cfg.Bridge == "" {
		cfg.Bridge = DefaultBridge
	}
	if cfg.State == "" {
		cfg.State = filepath.Join(cfg.ExecRoot, "network-plugins")
	}
	if cfg.Table == "" {
		cfg.Table = "gantry"
		if cfg.Bridge != DefaultBridge && cfg.Bridge != "none" {
			cfg.Table += "_" + cfg.Bridge
		}
	}
	program := gantrynet.New(cfg.GantryNet, filepath.Join(cfg.ExecRoot, "gantry-net.sock"))
	client, answers := publish.NewClient(program), names.New(program, cfg.Namespace)
	pub := publish.Config{HostIP: cfg.HostIP, IPv6: !cfg.NoIPv6Forwarder}
	supplies := ipam.Supplies(cfg.Supplies, cfg.Engine)
	forward, err := enableForwarding(cfg)
	if err != nil {
		return networks.Deps{}, err
	}
	bridges := bridge.Kind{Engine: short(cfg.Engine), LocalPorts: !cfg.NoIPTables, MTU: cfg.MTU, PoolSize: cfg.PoolSize, Forward6: forward.ipv6, Prepare: answers.Prepare, Flows: &flows.Forgetter{}}
	var rules publish.Rules
	if !cfg.NoIPTables {
		fw, err := firewall.New(firewall.Config{
			Table: cfg.Table, DirectRouting: cfg.DirectRouting, RespectHost: cfg.RespectHostFirewall, AcceptMark: cfg.AcceptMark,
			NoRouter: forward.switched4 && !cfg.ForwardNoDrop, NoRouter6: forward.switches6() && !cfg.ForwardNoDrop,
		})
		if err != nil {
			return networks.Deps{}, err
		}
		rules, bridges.Rules = fw, fw
	}
	manager := ipam.NewManager(supplies, used)
	below := lower.Env{Devices: lower.NewDevices(short(cfg.Engine)), PoolSize: cfg.PoolSize, Prepare: answers.Prepare}
	deps := networks.Deps{
		Namespaces: inside.Namespaces{}, Kinds: map[string]networks.Kind{"bridge": bridges, "macvlan": macvlan.Kind{Env: below}, "ipvlan": ipvlan.Kind{Env: below}, "cni": cni.Kind{State: filepath.Join(cfg.State, "cni")}},
		IPAM:    map[string]networks.IPAM{"default": manager, "null": ipam.Null{}},
		Plugins: remote.NewFinder(plugin.Default, plugin.Usual, cfg.State), Ports: publish.New(pub, rules, client), Names: answers,
		Predefined: []networks.Predefined{
			{Network: spec.Network{Name: "host", Driver: "host", EnableIPv4: true}, Driver: host.New()},
			{Network: spec.Network{Name: "none", Driver: "null", EnableIPv4: true}, Driver: null.New(cfg.PoolSize)},
		},
	}
	if cfg.Bridge == "none" {
		return deps, nil
	}
	standard, err := bridges.Default(bridge.Default{
		Name: cfg.Bridge, External: cfg.External, Address: cfg.Address, Range: cfg.FixedCIDR, Gateway: cfg.Gateway,
		IPv6: cfg.IPv6, Address6: cfg.Address6, Range6: cfg.FixedCIDR6, Gateway6: cfg.Gateway6,
		NoICC: cfg.NoICC, NoMasq: cfg.NoMasq, HostIP: cfg.HostIP,
	}, supplies)
	if err != nil {
		return networks.Deps{}, errors.Join(err, deps.Ports.Close(context.Background(), false))
	}
	manager.Hold(standard.Network)
	deps.Predefined = append([]networks.Predefined{standard}, deps.Predefined...)
	return deps, nil
}

// short is an engine's mark on interfaces.
func short(engine string) string {
	sum := sha256.Sum256([]byte(engine))
	return hex.EncodeToString(sum[:4])
}

// used are the subnets that the host has.
func used() ([]netip.Prefix, error) {
	c, err := netlink.Open(nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return bridge.Used(c)
}
