package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Foreign rules are read here and not by the library, which fails on expressions that
// it does not know well enough (ct original …): one rule of somebody's must not keep us
// from looking after ours.

// foreignRule is a rule as far as it matters here.
type foreignRule struct {
	handle  uint64
	comment string
	steps   []step
}

// step is one expression: its kind, and what it decides if that is what it does.
type step struct {
	kind    string // as the kernel names it: "meta", "immediate", "reject", …
	decides bool   // an immediate verdict
	verdict expr.VerdictKind
	chain   string // where a verdict leads
	target  string // of an xt target
}

// always is the step that a rule without conditions ends with; ok is false if the rule
// has conditions, or does nothing.
func (r foreignRule) always() (_ step, ok bool) {
	for _, s := range r.steps {
		switch {
		case s.kind == "counter" || s.kind == "log":
		case s.kind == "reject" || s.kind == "target" || s.decides:
			return s, true
		default:
			return s, false
		}
	}
	return step{}, false
}

// refuses tells whether a rule drops or rejects every packet.
func (r foreignRule) refuses() bool {
	s, ok := r.always()
	return ok && (s.kind == "reject" || s.decides && s.verdict == expr.VerdictDrop || s.target == "REJECT" || s.target == "DROP")
}

// leaves tells whether a rule sends every packet on to another chain.
func (r foreignRule) leaves() bool {
	s, ok := r.always()
	return ok && s.decides && (s.verdict == expr.VerdictJump || s.verdict == expr.VerdictGoto)
}

// rules lists a chain's rules; a chain that is gone has none, and gone is true.
func (k *kernel) rules(c *nftables.Chain) (out []foreignRule, gone bool, err error) {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: append([]byte(c.Table.Name), 0)},
		{Type: unix.NFTA_RULE_CHAIN, Data: append([]byte(c.Name), 0)},
	})
	if err != nil {
		return nil, false, err
	}
	got, err := k.lists.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{byte(c.Table.Family), unix.NFNETLINK_V0, 0, 0}, attrs...),
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("listing chain %s of nftables table %s: %w", c.Name, c.Table.Name, err)
	}
	for _, m := range got {
		if len(m.Data) < 4 {
			continue
		}
		r, err := readRule(m.Data[4:])
		if err != nil {
			return nil, false, fmt.Errorf("reading a rule of chain %s of nftables table %s: %w", c.Name, c.Table.Name, err)
		}
		out = append(out, r)
	}
	return out, false, nil
}

func readRule(data []byte) (r foreignRule, err error) {
	err = attributes(data, func(a netlink.Attribute) error {
		switch a.Type &^ netlink.Nested {
		case unix.NFTA_RULE_HANDLE:
			if len(a.Data) == 8 {
				r.handle = binary.BigEndian.Uint64(a.Data)
			}
		case unix.NFTA_RULE_USERDATA:
			r.comment, _ = userdata.GetString(a.Data, userdata.TypeComment)
		case unix.NFTA_RULE_EXPRESSIONS:
			return attributes(a.Data, func(a netlink.Attribute) error {
				s, err := readStep(a.Data)
				r.steps = append(r.steps, s)
				return err
			})
		}
		return nil
	})
	return r, err
}

func readStep(data []byte) (s step, err error) {
	err = attributes(data, func(a netlink.Attribute) error {
		switch {
		case a.Type&^netlink.Nested == unix.NFTA_EXPR_NAME:
			s.kind = text(a.Data)
		case a.Type&^netlink.Nested == unix.NFTA_EXPR_DATA && s.kind == "target":
			return attributes(a.Data, func(a netlink.Attribute) error {
				if a.Type == unix.NFTA_TARGET_NAME {
					s.target = text(a.Data)
				}
				return nil
			})
		case a.Type&^netlink.Nested == unix.NFTA_EXPR_DATA && s.kind == "immediate":
			return s.readImmediate(a.Data)
		}
		return nil
	})
	return s, err
}

// readImmediate reads a verdict: NFTA_IMMEDIATE_DATA holds NFTA_DATA_VERDICT holds code and chain.
func (s *step) readImmediate(data []byte) error {
	return attributes(data, func(a netlink.Attribute) error {
		if a.Type&^netlink.Nested != unix.NFTA_IMMEDIATE_DATA {
			return nil
		}
		return attributes(a.Data, func(a netlink.Attribute) error {
			if a.Type&^netlink.Nested != unix.NFTA_DATA_VERDICT {
				return nil
			}
			return attributes(a.Data, func(a netlink.Attribute) error {
				switch {
				case a.Type == unix.NFTA_VERDICT_CODE && len(a.Data) == 4:
					s.decides, s.verdict = true, expr.VerdictKind(int32(binary.BigEndian.Uint32(a.Data)))
				case a.Type == unix.NFTA_VERDICT_CHAIN:
					s.chain = text(a.Data)
				}
				return nil
			})
		})
	})
}

func attributes(data []byte, each func(netlink.Attribute) error) error {
	all, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		return err
	}
	for _, a := range all {
		if err := each(a); err != nil {
			return err
		}
	}
	return nil
}

// text is a string of the kernel's without its zero.
func text(data []byte) string {
	if n := len(data); n > 0 && data[n-1] == 0 {
		data = data[:n-1]
	}
	return string(data)
}
