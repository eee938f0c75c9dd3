package vxlan

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Options of vxlan networks.
const (
	optVNI       = "vni"       // the network's number, the same on all hosts: 1 to 16777215
	optPeers     = "peers"     // the other hosts' addresses, separated by commas
	optLocal     = "local"     // this host's address; else the one that leads to the first peer
	optPort      = "port"      // UDP; 4789
	optEncrypted = "encrypted" // IPsec between the hosts
	optKey       = "key"       // pre-shared: 64 hexadecimal digits or more
	optKeyFile   = "key-file"  // a file with it
	optMTU       = "com.docker.network.driver.mtu"

	defaultPort = 4789
	maxPeers    = 256
)

// options are what a network's options say.
type options struct {
	vni       int
	peers     []netip.Addr
	local     netip.Addr // invalid: to be found
	port      uint16
	encrypted bool
	key       []byte
	mtu       int // 0: to be found
}

func wrong(key, value, need string) error {
	return fmt.Errorf("invalid value for %s: %q: %s: %w", key, value, need, errdefs.ErrInvalidArgument)
}

// parse reads a network's options, and tells what is wrong with them. The key is read by secret.
func parse(n *spec.Network) (options, error) {
	o := options{port: defaultPort}
	var err error
	v := n.Options[optVNI]
	if o.vni, err = strconv.Atoi(v); err != nil || o.vni < 1 || o.vni > 1<<24-1 {
		return o, wrong(optVNI, v, "the number of the network, the same on all its hosts, is needed, 1 to 16777215")
	}
	if v := n.Options[optPort]; v != "" {
		p, err := strconv.ParseUint(v, 10, 16)
		if err != nil || p == 0 {
			return o, wrong(optPort, v, "a UDP port is needed, the same on all hosts")
		}
		o.port = uint16(p)
	}
	if v := n.Options[optLocal]; v != "" {
		if o.local, err = netip.ParseAddr(v); err != nil || o.local.IsUnspecified() || o.local.IsMulticast() || o.local.Zone() != "" {
			return o, wrong(optLocal, v, "an address of this host is needed")
		}
	}
	for _, text := range strings.FieldsFunc(n.Options[optPeers], func(c rune) bool { return c == ',' || c == ' ' }) {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "":
			return o, wrong(optPeers, text, "addresses of other hosts are needed, separated by commas")
		case a == o.local:
			return o, wrong(optPeers, text, "it is this host itself")
		case slices.Contains(o.peers, a):
			return o, wrong(optPeers, text, "it is named twice")
		case len(o.peers) > 0 && a.Is4() != o.peers[0].Is4() || o.local.IsValid() && a.Is4() != o.local.Is4():
			return o, wrong(optPeers, text, "all hosts need addresses of one family")
		}
		o.peers = append(o.peers, a)
	}
	if len(o.peers) == 0 && !o.local.IsValid() || len(o.peers) > maxPeers {
		return o, wrong(optPeers, n.Options[optPeers], fmt.Sprintf("the addresses of the other hosts are needed, 1 to %d, or this host's own (%s)", maxPeers, optLocal))
	}
	if v := n.Options[optMTU]; v != "" {
		if o.mtu, err = strconv.Atoi(v); err != nil || o.mtu < 0 || o.mtu > 65535 {
			return o, wrong(optMTU, v, "a number of bytes up to 65535 is needed")
		}
	}
	switch v, said := n.Options[optEncrypted]; {
	case said && v == "":
		o.encrypted = true
	case said:
		if o.encrypted, err = strconv.ParseBool(v); err != nil {
			return o, wrong(optEncrypted, v, "true or false is needed")
		}
	}
	if o.encrypted && (n.Options[optKey] == "") == (n.Options[optKeyFile] == "") {
		return o, fmt.Errorf("an encrypted network needs a key that its hosts share: -o %s=<file with 64 hexadecimal digits or more>, or -o %s=<digits>, which everybody sees who may inspect the network: %w",
			optKeyFile, optKey, errdefs.ErrInvalidArgument)
	}
	return o, nil
}

// secret reads the key that the hosts share.
func secret(n *spec.Network) ([]byte, error) {
	text := n.Options[optKey]
	if file := n.Options[optKeyFile]; file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("reading the key of an encrypted network (%s): %w: %w", optKeyFile, err, errdefs.ErrInvalidArgument)
		}
		defer f.Close()
		buf := make([]byte, 4096)
		k, err := f.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("reading the key of an encrypted network (%s): %w: %w", optKeyFile, err, errdefs.ErrInvalidArgument)
		}
		text = string(buf[:k])
	}
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) < 32 {
		return nil, fmt.Errorf("the key of an encrypted network is not 64 hexadecimal digits or more (head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n' makes one): %w", errdefs.ErrInvalidArgument)
	}
	return key, nil
}

// complete finds what the options leave open: this host's address and the largest packet. They are recorded with the network.
func (o *options) complete(n *spec.Network) error {
	c, err := netlink.Open(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	under := 0
	if o.local.IsValid() {
		l, err := c.Holder(o.local)
		if err != nil {
			return wrong(optLocal, o.local.String(), "it is no address of this host")
		}
		under = l.MTU
	}
	for _, p := range o.peers {
		from, mtu, err := c.Way(p)
		if err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		if under == 0 || mtu < under {
			under = mtu
		}
		if !o.local.IsValid() {
			o.local = from
		}
	}
	room := largest(under, o.local.Is6(), o.encrypted)
	switch least := map[bool]int{false: 576, true: 1280}[n.EnableIPv6]; {
	case room < least:
		return fmt.Errorf("packets of %d bytes between the hosts leave %d for containers, which need %d: %w", under, room, least, errdefs.ErrInvalidArgument)
	case o.mtu > room:
		return wrong(optMTU, strconv.Itoa(o.mtu), fmt.Sprintf("packets between the hosts leave room for %d bytes", room))
	case o.mtu == 0:
		o.mtu = room
	}
	n.Options = maps.Clone(n.Options)
	n.Options[optLocal], n.Options[optMTU] = o.local.String(), strconv.Itoa(o.mtu)
	return nil
}

// largest is how large containers' packets may be, in bytes, where the hosts send each other packets of under bytes.
func largest(under int, ipv6, encrypted bool) int {
	const udp, vxlan, ethernet = 8, 8, 14
	room := under - 20
	if ipv6 {
		room = under - 40
	}
	if encrypted {
		const esp, iv, icv, block, trailer = 8, 16, 16, 16, 2
		room = (room-esp-iv-icv)/block*block - trailer
	}
	return room - udp - vxlan - ethernet
}

// secure is how the packets between this host and a peer are encrypted. Both ends make the same of the key.
func (o options) secure(peer netip.Addr) (netlink.Secure, error) {
	s := netlink.Secure{Local: o.local, Peer: peer, Port: o.port, ID: o.vni}
	var err error
	if s.Out, err = o.direction(o.local, peer); err != nil {
		return s, err
	}
	s.In, err = o.direction(peer, o.local)
	return s, err
}

func (o options) direction(from, to netip.Addr) (netlink.Secret, error) {
	info := fmt.Sprintf("gantry vxlan %d port %d from %s to %s", o.vni, o.port, from, to)
	b, err := hkdf.Key(sha256.New, o.key, nil, info, 4+32+32)
	if err != nil {
		return netlink.Secret{}, err
	}
	// Numbers up to 255 are reserved (RFC 4303).
	return netlink.Secret{SPI: binary.BigEndian.Uint32(b) | 0x100, Crypt: b[4:36], Auth: b[36:]}, nil
}
