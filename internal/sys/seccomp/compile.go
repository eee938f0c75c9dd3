package seccomp

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Filter is a compiled profile.
type Filter struct {
	Code   []byte // struct sock_filter, one after the other, in the machine's byte order
	Flags  uint32 // for seccomp(2)
	Notify bool   // the filter has a listener
}

const maxCached = 64

var cache = struct {
	sync.Mutex
	m map[[32]byte]*Filter
}{m: map[[32]byte]*Filter{}}

// Compile turns a profile into a filter for this machine. The same profile is
// compiled once. Names that no architecture knows are passed over, as profiles list
// system calls of many kernels.
func Compile(p *specs.LinuxSeccomp) (*Filter, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(text)
	cache.Lock()
	f := cache.m[key]
	cache.Unlock()
	if f != nil {
		return f, nil
	}
	if f, err = compile(p, nativeArch()); err != nil {
		return nil, err
	}
	cache.Lock()
	defer cache.Unlock()
	if len(cache.m) >= maxCached {
		clear(cache.m)
	}
	cache.m[key] = f
	return f, nil
}

func nativeArch() specs.Arch {
	if runtime.GOARCH == "arm64" {
		return specs.ArchAARCH64
	}
	return specs.ArchX86_64
}

type arch struct {
	audit   uint32
	bit     uint32 // added to every number (x32)
	narrow  bool   // arguments have 32 bits
	numbers map[string]uint32
	special map[string]uint32
}

const x32Bit = 0x40000000

var x32Special = map[string]uint32{"rt_sigaction": 512, "rt_sigreturn": 513, "ioctl": 514, "readv": 515, "writev": 516, "recvfrom": 517,
	"sendmsg": 518, "recvmsg": 519, "execve": 520, "ptrace": 521, "rt_sigpending": 522, "rt_sigtimedwait": 523, "rt_sigqueueinfo": 524,
	"sigaltstack": 525, "timer_create": 526, "mq_notify": 527, "kexec_load": 528, "waitid": 529, "set_robust_list": 530, "get_robust_list": 531,
	"vmsplice": 532, "move_pages": 533, "preadv": 534, "pwritev": 535, "rt_tgsigqueueinfo": 536, "recvmmsg": 537, "sendmmsg": 538,
	"process_vm_readv": 539, "process_vm_writev": 540, "setsockopt": 541, "getsockopt": 542, "io_setup": 543, "io_submit": 544,
	"execveat": 545, "preadv2": 546, "pwritev2": 547,
	"set_thread_area": absent, "get_thread_area": absent, "epoll_ctl_old": absent, "epoll_wait_old": absent, "uselib": absent,
	"create_module": absent, "get_kernel_syms": absent, "query_module": absent, "nfsservctl": absent, "vserver": absent,
	"_sysctl": absent, "map_shadow_stack": absent}

// absent stands for a system call of the 64-bit table that x32 does not have.
const absent = ^uint32(0)

var arches = map[specs.Arch]arch{
	specs.ArchX86_64:  {audit: 0xc000003e, numbers: x8664Numbers},
	specs.ArchX86:     {audit: 0x40000003, narrow: true, numbers: x86Numbers},
	specs.ArchX32:     {audit: 0xc000003e, bit: x32Bit, numbers: x8664Numbers, special: x32Special},
	specs.ArchAARCH64: {audit: 0xc00000b7, numbers: arm64Numbers},
	specs.ArchARM:     {audit: 0x40000028, narrow: true, numbers: armNumbers},
}

func (a arch) number(name string) (uint32, bool) {
	if n, ok := a.special[name]; ok {
		return n | a.bit, n != absent
	}
	n, ok := a.numbers[name]
	return n | a.bit, ok
}

const (
	retKillProcess = 0x80000000
	retKillThread  = 0
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retNotify      = 0x7fc00000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000
	eperm, enosys  = 1, 38
)

func action(a specs.LinuxSeccompAction, errno *uint, fallback uint) (uint32, error) {
	data := uint32(fallback)
	if errno != nil {
		if *errno > math.MaxInt16 {
			return 0, fmt.Errorf("seccomp: errnoRet %d is too large: %w", *errno, errdefs.ErrInvalidArgument)
		}
		data = uint32(*errno)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActErrno:
		return retErrno | data, nil
	case specs.ActTrace:
		return retTrace | data, nil
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActNotify:
		return retNotify, nil
	}
	return 0, fmt.Errorf("seccomp: action %q is not known: %w", a, errdefs.ErrInvalidArgument)
}

var flagBits = map[specs.LinuxSeccompFlag]uint32{
	specs.LinuxSeccompFlagLog: 2, specs.LinuxSeccompFlagSpecAllow: 4, specs.LinuxSeccompFlagWaitKillableRecv: 32, "SECCOMP_FILTER_FLAG_TSYNC": 0,
}

// rule is what happens to one system call under conditions.
type rule struct {
	conds  []specs.LinuxSeccompArg
	action uint32
}

func compile(p *specs.LinuxSeccomp, native specs.Arch) (*Filter, error) {
	f := &Filter{}
	for _, flag := range p.Flags {
		bit, ok := flagBits[flag]
		if !ok {
			return nil, fmt.Errorf("seccomp: flag %q is not known: %w", flag, errdefs.ErrInvalidArgument)
		}
		f.Flags |= bit
	}
	def, err := action(p.DefaultAction, p.DefaultErrnoRet, eperm)
	if err != nil {
		return nil, err
	}
	if def == retNotify {
		return nil, fmt.Errorf("seccomp: the default action cannot be SCMP_ACT_NOTIFY: %w", errdefs.ErrInvalidArgument)
	}
	wanted := map[specs.Arch]bool{native: true}
	for _, a := range p.Architectures {
		wanted[a] = true
	}
	byAudit := map[uint32][]arch{}
	for name := range wanted {
		if a, ok := arches[name]; ok && sameFamily(native, name) {
			byAudit[a.audit] = append(byAudit[a.audit], a)
		}
	}
	code, err := archTrees(p, def, byAudit, arches[native].audit)
	if err != nil {
		return nil, err
	}
	if len(code) > 4096 {
		return nil, fmt.Errorf("seccomp: the profile needs %d instructions, the kernel takes 4096: %w", len(code), errdefs.ErrInvalidArgument)
	}
	for _, s := range p.Syscalls {
		f.Notify = f.Notify || s.Action == specs.ActNotify
	}
	if f.Notify {
		f.Flags |= 8
	}
	f.Code = encode(code)
	return f, nil
}

func sameFamily(native, a specs.Arch) bool {
	arm := func(x specs.Arch) bool { return x == specs.ArchAARCH64 || x == specs.ArchARM }
	return arm(native) == arm(a)
}

func archTrees(p *specs.LinuxSeccomp, def uint32, byAudit map[uint32][]arch, native uint32) ([]insn, error) {
	audits := make([]uint32, 0, len(byAudit))
	for a := range byAudit {
		audits = append(audits, a)
	}
	slices.SortFunc(audits, func(x, y uint32) int { // the native one is asked for first
		switch {
		case x == native:
			return -1
		case y == native:
			return 1
		}
		return int(int64(x) - int64(y))
	})
	code := []insn{load(offArch)}
	for _, audit := range audits {
		var segs []segment
		x32 := false
		slices.SortFunc(byAudit[audit], func(x, y arch) int { return int(x.bit) - int(y.bit) })
		for _, a := range byAudit[audit] {
			s, err := segments(p, def, a)
			if err != nil {
				return nil, err
			}
			x32 = x32 || a.bit != 0
			segs = append(segs, s...)
		}
		if audit == arches[specs.ArchX86_64].audit && !x32 {
			// A tracer skips a system call by making it -1; the filter is asked again with that.
			segs = append(segs, segment{x32Bit, []insn{ret(retKillThread)}}, segment{^uint32(0), []insn{ret(def)}})
		}
		tree := append([]insn{load(offNumber)}, decide(segs)...)
		code = append(code, insn{opJeq, 1, 0, audit}, insn{opJump, 0, 0, uint32(len(tree))})
		code = append(code, tree...)
	}
	return append(code, ret(retKillThread)), nil
}

// segment is the code for the numbers from its first to the next segment's.
type segment struct {
	from uint32
	code []insn
}

// segments sorts an architecture's rules by number.
func segments(p *specs.LinuxSeccomp, def uint32, a arch) ([]segment, error) {
	rules := map[uint32][]rule{}
	last := a.bit
	for _, s := range p.Syscalls {
		act, err := action(s.Action, s.ErrnoRet, eperm)
		if err != nil {
			return nil, err
		}
		for _, name := range s.Names {
			n, ok := a.number(name)
			if !ok {
				continue
			}
			last = max(last, n)
			if act != def {
				rules[n] = append(rules[n], expand(s.Args, act)...)
			}
		}
	}
	segs := []segment{{a.bit, []insn{ret(def)}}}
	for _, n := range sortedNumbers(rules) {
		body, err := block(rules[n], def, a.narrow)
		if err != nil {
			return nil, err
		}
		segs = append(segs, segment{n, body}, segment{n + 1, []insn{ret(def)}})
	}
	if last > a.bit && newerIsENOSYS(def) && last-a.bit < 0xf0000 {
		segs = append(segs, segment{last + 1, []insn{ret(retErrno | enosys)}})
	}
	return merge(segs), nil
}

func newerIsENOSYS(def uint32) bool {
	return def != retAllow && def != retLog && def != retErrno|enosys
}

// expand splits a rule with several conditions on one argument into alternatives.
func expand(args []specs.LinuxSeccompArg, act uint32) []rule {
	count := map[uint]int{}
	for _, a := range args {
		count[a.Index]++
	}
	for _, n := range count {
		if n > 1 {
			var out []rule
			for _, a := range args {
				out = append(out, rule{[]specs.LinuxSeccompArg{a}, act})
			}
			return out
		}
	}
	return []rule{{args, act}}
}

func sortedNumbers(m map[uint32][]rule) []uint32 {
	out := make([]uint32, 0, len(m))
	for n := range m {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// merge drops segments that begin where another begins, and joins equal neighbours.
func merge(segs []segment) []segment {
	var out []segment
	for i, s := range segs {
		if i+1 < len(segs) && segs[i+1].from == s.from {
			continue
		}
		if len(out) > 0 && slices.Equal(out[len(out)-1].code, s.code) {
			continue
		}
		out = append(out, s)
	}
	return out
}

// block tries a system call's rules: conditional ones in order, then the unconditional one.
func block(rules []rule, def uint32, narrow bool) ([]insn, error) {
	var code []insn
	end := ret(def)
	for _, r := range rules {
		if len(r.conds) == 0 {
			end = ret(r.action)
			continue
		}
		body, err := conditions(r.conds, narrow)
		if err != nil {
			return nil, err
		}
		code = append(code, body...)
		code = append(code, ret(r.action))
	}
	if allReturn(code, end) {
		return []insn{end}, nil
	}
	return append(code, end), nil
}

func allReturn(code []insn, end insn) bool {
	for _, i := range code {
		if i.op == opRet && i != end {
			return false
		}
	}
	return true
}

func encode(code []insn) []byte {
	out := make([]byte, 0, len(code)*8)
	for _, i := range code {
		out = binary.NativeEndian.AppendUint16(out, i.op)
		out = append(out, i.jt, i.jf)
		out = binary.NativeEndian.AppendUint32(out, i.k)
	}
	return out
}
