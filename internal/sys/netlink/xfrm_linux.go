package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Secret is one direction of an encrypted connection of two hosts.
type Secret struct {
	SPI         uint32 // how the receiver finds the key
	Crypt, Auth []byte // keys: AES-CBC, 32 bytes, and HMAC-SHA256, 32 bytes
}

// Secure is the encryption of what two hosts send each other at a UDP port (IPsec, transport mode).
type Secure struct {
	Local, Peer netip.Addr
	Port        uint16
	ID          int // by which it is found again; not 0
	Out, In     Secret
}

// Priorities of policies: what is for a peer goes before what is for all.
const (
	securePeer = 1000
	secureAll  = 2000
)

// ErrNoEncryption says that the kernel lacks what IPsec needs.
var ErrNoEncryption = errors.New("this kernel cannot encrypt packets (IPsec with ESP, cbc(aes) and hmac(sha256))")

// ErrSecured says that somebody else encrypts what the hosts send each other at the port.
var ErrSecured = errors.New("there is encryption of another kind for this peer and port already")

// AddSecure has the kernel encrypt what goes to the peer's port, and take from the peer nothing that is not encrypted. What
// is there already under the same ID is replaced.
func AddSecure(s Secure) error {
	h, err := nl.NewHandle(unix.NETLINK_XFRM)
	if err != nil {
		return noEncryption(err)
	}
	defer h.Close()
	for _, d := range []struct {
		from, to netip.Addr
		key      Secret
		dir      nl.Dir
	}{{s.Local, s.Peer, s.Out, nl.XFRM_DIR_OUT}, {s.Peer, s.Local, s.In, nl.XFRM_DIR_IN}} {
		state := &nl.XfrmState{
			Src: d.from.AsSlice(), Dst: d.to.AsSlice(), Proto: nl.XFRM_PROTO_ESP, Mode: nl.XFRM_MODE_TRANSPORT, Spi: int(d.key.SPI), Reqid: s.ID,
			Crypt: &nl.XfrmStateAlgo{Name: "cbc(aes)", Key: d.key.Crypt}, Auth: &nl.XfrmStateAlgo{Name: "hmac(sha256)", Key: d.key.Auth, TruncateLen: 128},
		}
		err := h.XfrmStateAdd(state)
		if errors.Is(err, unix.EEXIST) {
			err = h.XfrmStateUpdate(state)
		}
		if err != nil {
			return noEncryption(err)
		}
		p := &nl.XfrmPolicy{
			Src: host(d.from), Dst: host(d.to), Proto: unix.IPPROTO_UDP, DstPort: int(s.Port), Dir: d.dir, Priority: securePeer,
			Tmpls: []nl.XfrmPolicyTmpl{{Src: d.from.AsSlice(), Dst: d.to.AsSlice(), Proto: nl.XFRM_PROTO_ESP, Mode: nl.XFRM_MODE_TRANSPORT, Reqid: s.ID}},
		}
		if err := addPolicy(h, p, s.ID); err != nil {
			return err
		}
	}
	return nil
}

// addPolicy adds a policy, if none of somebody else's is for the same packets.
func addPolicy(h *nl.Handle, p *nl.XfrmPolicy, id int) error {
	err := h.XfrmPolicyAdd(p)
	if !errors.Is(err, unix.EEXIST) {
		if err != nil {
			return noEncryption(err)
		}
		return nil
	}
	there, err := h.XfrmPolicyGet(p)
	if err != nil {
		return fmt.Errorf("reading an IPsec policy: %w", err)
	}
	if !owned(*there, id) {
		return ErrSecured
	}
	return nil
}

// BlockPlain has the kernel drop what comes to a local port unencrypted, from whom ever.
func BlockPlain(local netip.Addr, port uint16) error {
	h, err := nl.NewHandle(unix.NETLINK_XFRM)
	if err != nil {
		return noEncryption(err)
	}
	defer h.Close()
	all := &net.IPNet{IP: make(net.IP, len(local.AsSlice())), Mask: net.CIDRMask(0, local.BitLen())}
	err = h.XfrmPolicyAdd(&nl.XfrmPolicy{Src: all, Dst: host(local), Proto: unix.IPPROTO_UDP, DstPort: int(port), Dir: nl.XFRM_DIR_IN, Priority: secureAll, Action: nl.XFRM_POLICY_BLOCK})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return noEncryption(err)
	}
	return nil
}

// DeleteSecure takes away all that AddSecure and BlockPlain made for an ID at a local address and port.
func DeleteSecure(local netip.Addr, port uint16, id int) error {
	h, err := nl.NewHandle(unix.NETLINK_XFRM)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil // there can be none
	}
	if err != nil {
		return err
	}
	defer h.Close()
	var errs []error
	policies, err := h.XfrmPolicyList(unix.AF_UNSPEC)
	errs = append(errs, err)
	for _, p := range policies {
		blocks := p.Priority == secureAll && p.Action == nl.XFRM_POLICY_BLOCK && p.Dst != nil && p.Dst.IP.Equal(local.AsSlice())
		if p.DstPort == int(port) && (blocks || owned(p, id)) {
			errs = append(errs, gone(h.XfrmPolicyDel(&p)))
		}
	}
	states, err := h.XfrmStateList(unix.AF_UNSPEC)
	errs = append(errs, err)
	for _, s := range states {
		if s.Reqid == id && (s.Src.Equal(local.AsSlice()) || s.Dst.Equal(local.AsSlice())) {
			errs = append(errs, gone(h.XfrmStateDel(&s)))
		}
	}
	return errors.Join(errs...)
}

func owned(p nl.XfrmPolicy, id int) bool { return len(p.Tmpls) == 1 && p.Tmpls[0].Reqid == id }

func gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func host(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, a.BitLen())) }

func noEncryption(err error) error {
	for _, e := range []error{unix.EPROTONOSUPPORT, unix.ENOSYS, unix.ENOENT, unix.EOPNOTSUPP} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrNoEncryption, err)
		}
	}
	return fmt.Errorf("encrypting packets: %w", err)
}
