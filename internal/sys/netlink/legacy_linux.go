package netlink

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Layouts of linux/netfilter_ipv4/ip_tables.h, as far as they are read here.
const (
	iptGetInfo    = 64 // IPT_SO_GET_INFO
	iptGetEntries = 65 // IPT_SO_GET_ENTRIES

	nameSize       = 32 // XT_TABLE_MAXNAMELEN
	infoSize       = 84 // struct ipt_getinfo
	infoUnderflow  = nameSize + 4 + 5*4
	infoBytes      = infoUnderflow + 5*4 + 4
	hookForward    = 2  // NF_INET_FORWARD
	getEntriesHead = 40 // struct ipt_get_entries before the entries
	entrySize      = 112
	entryIn        = 16 // interface names in struct ipt_ip
	entryOut       = 32
	entryProto     = 80
	entryInverse   = 83
	entryTarget    = 88 // u16: offset of the target in the entry
	entryNext      = 90 // u16: offset of the next entry
	targetHead     = 32 // struct xt_entry_target before a standard target's verdict
	verdictDrop    = -1 // -NF_DROP - 1
	verdictAccept  = -2 // -NF_ACCEPT - 1
)

// LegacyForwardDrops tells whether the old iptables (not iptables-nft), in the caller's
// namespace, drops by policy what passes through the host, and has no plain accept for both
// directions of bridge. Where the old tables are not in use it does not bring them to life.
func LegacyForwardDrops(bridge string) (bool, error) {
	names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if err != nil || !slices.Contains(strings.Fields(string(names)), "filter") {
		return false, nil // no old iptables here
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return false, fmt.Errorf("reading the old iptables: %w", err)
	}
	defer unix.Close(fd)
	info := make([]byte, infoSize)
	copy(info, "filter")
	if err := getsockopt(fd, iptGetInfo, info); err != nil {
		return false, fmt.Errorf("reading the old iptables: %w", err)
	}
	n := binary.NativeEndian
	size := n.Uint32(info[infoBytes:])
	if size > 64<<20 {
		return false, fmt.Errorf("reading the old iptables: %d bytes of rules", size)
	}
	all := make([]byte, getEntriesHead+int(size))
	copy(all, "filter")
	n.PutUint32(all[nameSize:], size)
	if err := getsockopt(fd, iptGetEntries, all); err != nil {
		return false, fmt.Errorf("reading the old iptables: %w", err)
	}
	return drops(all[getEntriesHead:], n.Uint32(info[infoUnderflow+4*hookForward:]), bridge), nil
}

// drops looks at a table's entries; policy is where FORWARD's policy is among them.
func drops(entries []byte, policy uint32, bridge string) bool {
	var drop, in, out bool
	for at := 0; at+entrySize <= len(entries); {
		e := entries[at:]
		target := int(binary.NativeEndian.Uint16(e[entryTarget:]))
		next := int(binary.NativeEndian.Uint16(e[entryNext:]))
		if next < entrySize || target+targetHead+4 > len(e) {
			break
		}
		verdict := int32(binary.NativeEndian.Uint32(e[target+targetHead:]))
		standard := e[target+2] == 0 // a verdict has no target's name
		drop = drop || at == int(policy) && verdict == verdictDrop
		everybody := len(bytes.Trim(e[:entryIn], "\x00")) == 0 && e[entryProto] == 0 && e[entryInverse] == 0 && target == entrySize
		if standard && verdict == verdictAccept && everybody {
			i, o := cString(e[entryIn:entryIn+16]), cString(e[entryOut:entryOut+16])
			in = in || i == bridge && o == ""
			out = out || o == bridge && i == ""
		}
		at += next
	}
	return drop && !(in && out)
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

func getsockopt(fd, option int, buf []byte) error {
	size := uint32(len(buf))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_IP, uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return e
	}
	return nil
}
