package names

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// Table is the nftables table, of the family ip, that is made in containers' namespaces. Other rules than these are to
// have another name, as containers outlive versions.
const Table = "gantry_names"

const domainPort = 53

// Where the fields stand that are looked at and rewritten.
const (
	ipSource, ipDest       = 12, 16 // in an IPv4 header
	sourcePort, destPort   = 0, 2   // in a TCP and a UDP header
	tcpChecksum, udpChksum = 16, 6
)

// Redirect leads what is sent to port 53 of 127.0.0.11 in ns to where our sockets are, and lets the answers come from
// port 53. The ports are rewritten packet by packet without connection tracking, which therefore is not switched on in
// the namespace, and whose tables no flood of questions fills. If somebody else in there tracks connections, questions are
// rewritten before and answers after that, so that it sees one flow. A table that is there already is left alone: it was
// made as a whole or not at all, and to delete it would mean to wait for every processor (RCU), milliseconds long.
func Redirect(ns *os.File) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())), nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("opening an nftables socket: %w", err)
	}
	defer func() { _ = c.CloseLasting() }()
	if _, err := c.ListTableOfFamily(Table, nftables.TableFamilyIPv4); !errors.Is(err, unix.ENOENT) {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: Table})
	ask := output(c, t, "ask", nftables.ChainPriorityRaw)
	answer := output(c, t, "answer", nftables.ChainPriorityMangle)
	for _, proto := range []struct {
		number   byte
		checksum uint32
	}{{unix.IPPROTO_UDP, udpChksum}, {unix.IPPROTO_TCP, tcpChecksum}} {
		c.AddRule(rewrite(ask, ipDest, proto.number, destPort, domainPort, netproto.ResolverPort, proto.checksum))
		c.AddRule(rewrite(answer, ipSource, proto.number, sourcePort, netproto.ResolverPort, domainPort, proto.checksum))
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("making nftables table ip %s in a container's namespace: %w", Table, err)
	}
	return nil
}

func output(c *nftables.Conn, t *nftables.Table, name string, at *nftables.ChainPriority) *nftables.Chain {
	return c.AddChain(&nftables.Chain{
		Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: at,
	})
}

// rewrite is the rule that packets of a protocol, with our address at one place of the IP header and port from at
// another of the protocol's, get port to there.
func rewrite(chain *nftables.Chain, address uint32, proto byte, port uint32, from, to uint16, checksum uint32) *nftables.Rule {
	ours := netproto.ResolverAddress.As4()
	return &nftables.Rule{Table: chain.Table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: address, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ours[:]},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, from)},
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, to)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: checksum,
		},
	}}
}
