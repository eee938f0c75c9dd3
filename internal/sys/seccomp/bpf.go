package seccomp

import (
	"fmt"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// insn is struct sock_filter.
type insn struct {
	op     uint16
	jt, jf uint8
	k      uint32
}

const (
	opLoad = 0x20 // BPF_LD|BPF_W|BPF_ABS
	opAnd  = 0x54 // BPF_ALU|BPF_AND|BPF_K
	opJump = 0x05 // BPF_JMP|BPF_JA
	opJeq  = 0x15
	opJgt  = 0x25
	opJge  = 0x35
	opRet  = 0x06

	offNumber = 0
	offArch   = 4
	offArgs   = 16

	// fails marks a jump to the end of the rule until its length is known.
	fails = 255
)

func load(off uint32) insn { return insn{op: opLoad, k: off} }
func ret(action uint32) insn {
	return insn{op: opRet, k: action}
}

// decide is a binary search over segments in ascending order.
func decide(segs []segment) []insn {
	if len(segs) == 1 {
		return segs[0].code
	}
	mid := len(segs) / 2
	left, right := decide(segs[:mid]), decide(segs[mid:])
	var code []insn
	if len(left) <= 255 {
		code = append(code, insn{opJge, uint8(len(left)), 0, segs[mid].from})
	} else {
		code = append(code, insn{opJge, 0, 1, segs[mid].from}, insn{opJump, 0, 0, uint32(len(left))})
	}
	code = append(code, left...)
	return append(code, right...)
}

// conditions checks that all hold and goes on after them; else it jumps over one
// further instruction, the rule's return.
func conditions(args []specs.LinuxSeccompArg, narrow bool) ([]insn, error) {
	var code []insn
	for _, a := range args {
		c, err := condition(a, narrow)
		if err != nil {
			return nil, err
		}
		code = append(code, c...)
	}
	for i := range code {
		to := uint8(len(code) - i)
		if code[i].jt == fails {
			code[i].jt = to
		}
		if code[i].jf == fails {
			code[i].jf = to
		}
	}
	return code, nil
}

// condition compares one argument: by halves, or the lower one alone where there is no more. Profiles
// write -1 with 64 bits, which a system call of 32 bits could never match.
func condition(a specs.LinuxSeccompArg, narrow bool) ([]insn, error) {
	if a.Index > 5 {
		return nil, fmt.Errorf("seccomp: a system call has 6 arguments, there is no number %d: %w", a.Index, errdefs.ErrInvalidArgument)
	}
	lo, hi := load(offArgs+8*uint32(a.Index)), load(offArgs+8*uint32(a.Index)+4)
	vlo, vhi := uint32(a.Value), uint32(a.Value>>32)
	if narrow {
		code, ok := map[specs.LinuxSeccompOperator][]insn{
			specs.OpEqualTo:      {lo, {opJeq, 0, fails, vlo}},
			specs.OpNotEqual:     {lo, {opJeq, fails, 0, vlo}},
			specs.OpMaskedEqual:  {lo, {opAnd, 0, 0, vlo}, {opJeq, 0, fails, uint32(a.ValueTwo)}},
			specs.OpGreaterThan:  {lo, {opJgt, 0, fails, vlo}},
			specs.OpGreaterEqual: {lo, {opJge, 0, fails, vlo}},
			specs.OpLessThan:     {lo, {opJge, fails, 0, vlo}},
			specs.OpLessEqual:    {lo, {opJgt, fails, 0, vlo}},
		}[a.Op]
		if ok {
			return code, nil
		}
	}
	switch a.Op {
	case specs.OpEqualTo:
		return []insn{hi, {opJeq, 0, fails, vhi}, lo, {opJeq, 0, fails, vlo}}, nil
	case specs.OpNotEqual:
		return []insn{hi, {opJeq, 0, 2, vhi}, lo, {opJeq, fails, 0, vlo}}, nil
	case specs.OpMaskedEqual:
		return []insn{hi, {opAnd, 0, 0, vhi}, {opJeq, 0, fails, uint32(a.ValueTwo >> 32)},
			lo, {opAnd, 0, 0, vlo}, {opJeq, 0, fails, uint32(a.ValueTwo)}}, nil
	case specs.OpGreaterThan:
		return []insn{hi, {opJgt, 3, 0, vhi}, {opJeq, 0, fails, vhi}, lo, {opJgt, 0, fails, vlo}}, nil
	case specs.OpGreaterEqual:
		return []insn{hi, {opJgt, 3, 0, vhi}, {opJeq, 0, fails, vhi}, lo, {opJge, 0, fails, vlo}}, nil
	case specs.OpLessThan:
		return []insn{hi, {opJgt, fails, 0, vhi}, {opJeq, 0, 2, vhi}, lo, {opJge, fails, 0, vlo}}, nil
	case specs.OpLessEqual:
		return []insn{hi, {opJgt, fails, 0, vhi}, {opJeq, 0, 2, vhi}, lo, {opJgt, fails, 0, vlo}}, nil
	}
	return nil, fmt.Errorf("seccomp: comparison %q is not known: %w", a.Op, errdefs.ErrInvalidArgument)
}
