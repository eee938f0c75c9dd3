package netlink

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Pair describes a veth pair whose one end is a bridge's port and whose other end
// is born inside a namespace under its final name.
type Pair struct {
	Name     string   // the host's end, at most 15 characters
	Bridge   int      // interface index of the bridge
	NS       *os.File // where the peer goes
	PeerName string
	PeerMAC  net.HardwareAddr
	MTU      int
	Hairpin  bool // the port may send frames back where they came from
	Isolated bool // the port does not talk to other isolated ports
}

// minMTU6 is the smallest MTU that IPv6 works with (RFC 8200).
const minMTU6 = 1280

// ErrBridgeFull says that a bridge has as many interfaces as the kernel allows: BridgePorts.
var ErrBridgeFull error = unix.EXFULL

// BridgePorts is how many interfaces the kernel puts on one bridge (BR_MAX_PORTS in
// net/bridge/br_private.h, less number 0).
const BridgePorts = 1023

// AddPair makes the pair in two messages: the pair itself, its host end a port of the bridge already, the peer named
// and with its hardware address in its namespace, both down; then the port's options, and up. If the second fails,
// the pair stays until its namespace goes; if the bridge is full, there is none.
func (c *Conn) AddPair(p Pair) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.Name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(p.MTU))))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(p.Bridge))))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC) // not up: the kernel refuses until both ends know each other
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.PeerName))
	peer.AddRtAttr(unix.IFLA_ADDRESS, p.PeerMAC)
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(p.MTU)))
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(p.NS.Fd())))
	req.AddData(info)
	if err := c.do(req); err != nil {
		return fmt.Errorf("making veth pair %s: %w", p.Name, err)
	}
	if err := c.open(p); err != nil {
		return fmt.Errorf("opening veth %s: %w", p.Name, err)
	}
	return nil
}

// open sets the port's options and brings the host end up in one go, without IPv6 of its own. The interface goes by its name: looking its
// number up is dear where there are a thousand.
func (c *Conn) open(p Pair) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.Name)))
	if p.Hairpin || p.Isolated {
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
		options := info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil)
		if p.Hairpin {
			options.AddRtAttr(nl.IFLA_BRPORT_MODE, nl.Uint8Attr(1))
		}
		if p.Isolated {
			options.AddRtAttr(nl.IFLA_BRPORT_ISOLATED, nl.Uint8Attr(1))
		}
		req.AddData(info)
	}
	if ipv6() && p.MTU >= minMTU6 { // with less the kernel gives it no IPv6 at all
		af := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
		const addrGenMode, addrGenNone = 8, 1 // IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE
		af.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(addrGenMode, nl.Uint8Attr(addrGenNone))
		req.AddData(af)
	}
	return c.do(req)
}

func (c *Conn) do(req *nl.NetlinkRequest) error {
	req.Sockets = c.own
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func ipv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}
