package firewall

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// initChunk is the first packet of an SCTP association (RFC 9260, 3.3.2).
func initChunk(from, to uint16) []byte {
	b := make([]byte, 32)
	n := binary.BigEndian
	n.PutUint16(b[0:], from)
	n.PutUint16(b[2:], to)
	b[12] = 1                       // INIT
	n.PutUint16(b[14:], 20)         // its length
	n.PutUint32(b[16:], 0x67616e74) // initiate tag
	n.PutUint32(b[20:], 1<<16)      // receiver window
	n.PutUint16(b[24:], 1)          // streams out
	n.PutUint16(b[26:], 1)          // and in
	n.PutUint32(b[28:], 1)          // initial TSN
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// TestSCTP: ports of SCTP are translated, with their checksum. Packets are made by
// hand, as not every kernel has sockets for it.
func TestSCTP(t *testing.T) {
	for name, cfg := range map[string]Config{"translated at once": {}, "judged by the host": {RespectHost: true}} {
		t.Run(name, func(t *testing.T) {
			w := newTown(t)
			w.bridge("gtest0", 0)
			f := open(t, cfg, network("gtest0", 0))
			must(t, f.Add([]Mapping{port("sctp", "", 9000, "172.30.0.2:2905"), port("sctp", "", 9000, "[fd00:30::2]:2905")}))
			must(t, f.Rebuild())
			server := w.container("gtest0", 0, 2)
			for _, c := range []struct{ network, to, sees string }{{"ip4:sctp", "192.168.50.1", "192.168.50.2"}, {"ip6:sctp", "fd50::1", "fd50::2"}} {
				var in, out net.PacketConn
				must(t, netlink.Do(server, func() (err error) { in, err = net.ListenPacket(c.network, ""); return err }))
				must(t, netlink.Do(w.lan, func() (err error) { out, err = net.ListenPacket(c.network, ""); return err }))
				_, err := out.WriteTo(initChunk(4000, 9000), &net.IPAddr{IP: netip.MustParseAddr(c.to).AsSlice()})
				must(t, err)
				_ = in.SetReadDeadline(time.Now().Add(patience))
				buf := make([]byte, 256)
				n, from, err := in.ReadFrom(buf)
				if err != nil {
					t.Fatalf("%s: %v", c.network, err)
				}
				if want := initChunk(4000, 2905); string(buf[:n]) != string(want) || from.String() != c.sees {
					t.Errorf("%s: %s sent % x; want %s and % x", c.network, from, buf[:n], c.sees, want)
				}
				_, _ = in.Close(), out.Close()
			}
		})
	}
}
