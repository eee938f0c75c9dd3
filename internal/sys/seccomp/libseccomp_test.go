package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	profile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
)

// reference builds the helper that compiles profiles with libseccomp.
func reference(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "reference")
	out, err := exec.Command("gcc", "-o", bin, "testdata/reference.c", "-lseccomp").CombinedOutput()
	if err != nil {
		t.Skipf("a C compiler with libseccomp's headers is needed: %v\n%s", err, out)
	}
	return bin
}

var libArch = map[specs.Arch]string{specs.ArchX86_64: "x86_64", specs.ArchX86: "x86", specs.ArchX32: "x32", specs.ArchAARCH64: "aarch64", specs.ArchARM: "arm"}

var libOps = map[specs.LinuxSeccompOperator]int{specs.OpNotEqual: 1, specs.OpLessThan: 2, specs.OpLessEqual: 3, specs.OpEqualTo: 4,
	specs.OpGreaterEqual: 5, specs.OpGreaterThan: 6, specs.OpMaskedEqual: 7}

// libseccomp compiles a profile as runc does with that library, without runc's own prefix for newer
// system calls. unknown are the names that the library does not know.
func libseccomp(t *testing.T, bin string, p *specs.LinuxSeccomp, family []specs.Arch) (f *Filter, unknown map[string]bool) {
	t.Helper()
	var in strings.Builder
	def := must(t)(action(p.DefaultAction, p.DefaultErrnoRet, eperm))
	fmt.Fprintf(&in, "default %d\n", def)
	for _, a := range family {
		fmt.Fprintf(&in, "arch %s\n", libArch[a])
	}
	for _, s := range p.Syscalls {
		act := must(t)(action(s.Action, s.ErrnoRet, eperm))
		if act == def {
			continue // the library refuses those; they change nothing
		}
		for _, name := range s.Names {
			for _, r := range expand(s.Args, act) {
				fmt.Fprintf(&in, "rule %d %s %d", act, name, len(r.conds))
				for _, c := range r.conds {
					fmt.Fprintf(&in, " %d %d %d %d", c.Index, libOps[c.Op], c.Value, c.ValueTwo)
				}
				in.WriteByte('\n')
			}
		}
	}
	cmd := exec.Command(bin)
	var out, diag bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in.String()), &out, &diag
	if err := cmd.Run(); err != nil {
		t.Fatalf("libseccomp: %v\n%s", err, diag.String())
	}
	unknown = map[string]bool{}
	for _, name := range strings.Fields(diag.String()) {
		unknown[name] = true
	}
	return &Filter{Code: out.Bytes()}, unknown
}

func must(t *testing.T) func(uint32, error) uint32 {
	return func(n uint32, err error) uint32 {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// machine makes a virtual machine of a filter.
func machine(t *testing.T, f *Filter) func(arch, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	var prog []bpf.Instruction
	for c := f.Code; len(c) > 0; c = c[8:] {
		prog = append(prog, bpf.RawInstruction{Op: binary.NativeEndian.Uint16(c), Jt: c[2], Jf: c[3], K: binary.NativeEndian.Uint32(c[4:])}.Disassemble())
	}
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatal(err)
	}
	return func(arch, nr uint32, args [6]uint64) uint32 {
		var data [64]byte // the machine reads words as big endian
		binary.BigEndian.PutUint32(data[:], nr)
		binary.BigEndian.PutUint32(data[4:], arch)
		for i, a := range args {
			binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
			binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
		}
		got, err := vm.Run(data[:])
		if err != nil {
			t.Fatal(err)
		}
		return uint32(got)
	}
}

// probes are the arguments that can make a difference to a system call: around every value
// that a condition names, in each half, alone and together.
func probes(rules []specs.LinuxSyscall) [][6]uint64 {
	const half = uint64(1<<32 - 1)
	out := [][6]uint64{{}, {half, half, half, half, half, half}, {^half, ^half, ^half, ^half, ^half, ^half}, {^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}}
	values := map[uint]map[uint64]bool{}
	for _, r := range rules {
		for _, a := range r.Args {
			if values[a.Index] == nil {
				values[a.Index] = map[uint64]bool{0: true, ^uint64(0): true}
			}
			for _, v := range []uint64{a.Value, a.ValueTwo, a.ValueTwo | ^a.Value} {
				for _, w := range []uint64{v, v - 1, v + 1, v ^ 1<<32, v ^ 1<<63, v ^ 1<<31, uint64(uint32(v))} {
					values[a.Index][w] = true
				}
			}
		}
	}
	for _, index := range slices.Sorted(maps.Keys(values)) {
		have := out
		for _, v := range slices.Sorted(maps.Keys(values[index])) {
			for _, base := range have {
				if len(out) > 4000 {
					break
				}
				base[index] = v
				out = append(out, base)
			}
		}
	}
	return out
}

// wide tells whether a rule names a value above 32 bits: libseccomp holds x32's arguments for narrower than they are.
func wide(rules []specs.LinuxSyscall) bool {
	return slices.ContainsFunc(rules, func(s specs.LinuxSyscall) bool {
		return slices.ContainsFunc(s.Args, func(a specs.LinuxSeccompArg) bool { return max(a.Value, a.ValueTwo) >= 1<<32 })
	})
}

// compare runs both filters over every system call of every architecture and lists where they differ.
func compare(t *testing.T, bin string, p *specs.LinuxSeccomp, native specs.Arch, family []specs.Arch) (asked int, diffs []string) {
	t.Helper()
	ours, err := compile(p, native)
	if err != nil {
		t.Fatal(err)
	}
	theirs, unknown := libseccomp(t, bin, p, family)
	own, lib := machine(t, ours), machine(t, theirs)
	def := must(t)(action(p.DefaultAction, p.DefaultErrnoRet, eperm))
	for _, name := range family {
		a := arches[name]
		rules, last := map[uint32][]specs.LinuxSyscall{}, a.bit
		newer := map[uint32]bool{}
		for _, s := range p.Syscalls {
			for _, call := range s.Names {
				n, ok := a.number(call)
				if !ok {
					continue
				}
				last = max(last, n)
				rules[n] = append(rules[n], s)
				newer[n] = newer[n] || unknown[call]
			}
		}
		numbers := slices.Collect(maps.Keys(rules))
		for n := range uint32(700) {
			numbers = append(numbers, n|a.bit)
		}
		numbers = append(numbers, 0xf0000, 0xf0001, 0xf0002, 0xf0005, 0x3fffffff, 0x40000000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff)
		slices.Sort(numbers)
		for _, n := range slices.Compact(numbers) {
			x32 := a.audit == 0xc000003e && a.bit == 0 && n >= x32Bit
			if newer[n] || x32 && slices.Contains(family, specs.ArchX32) || a.bit != 0 && (n < a.bit || wide(rules[n])) {
				continue
			}
			for _, args := range probes(rules[n]) {
				if (a.narrow || a.bit != 0) && slices.Max(args[:]) >= 1<<32 {
					continue // the kernel never asks so; with x32 it does, and libseccomp looks at half of it
				}
				asked++
				got, want := own(a.audit, n, args), lib(a.audit, n, args)
				if n > last && last > a.bit && !x32 && want == def && newerIsENOSYS(def) && last-a.bit < 0xf0000 {
					want = retErrno | enosys // runc's prefix
				}
				if got != want {
					diffs = append(diffs, fmt.Sprintf("%s %d (%d) %#x: %#x, libseccomp %#x", name, n, n&^a.bit, args, got, want))
				}
			}
		}
	}
	for _, audit := range []uint32{0, 0x16, 0x40000003, 0xc000003e, 0xc00000b7, 0x40000028} {
		if def == retKillThread {
			break
		}
		if got, want := own(audit, 1<<20, [6]uint64{}), lib(audit, 1<<20, [6]uint64{}); (got == retKillThread) != (want == retKillThread) {
			diffs = append(diffs, fmt.Sprintf("architecture %#x: %#x, libseccomp %#x", audit, got, want))
		}
	}
	return asked, diffs
}

// families are the architectures of a filter, a machine's own first.
var families = [][]specs.Arch{
	{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}, {specs.ArchX86_64}, {specs.ArchAARCH64, specs.ArchARM}, {specs.ArchAARCH64},
}

func report(t *testing.T, what string, asked int, diffs []string) {
	t.Helper()
	if len(diffs) > 0 {
		t.Errorf("%s: %d of %d answers differ:\n%s", what, len(diffs), asked, strings.Join(diffs[:min(len(diffs), 12)], "\n"))
	}
}

// The default profile, compiled here and by libseccomp, gives the same answer to every system call of
// every architecture, for arguments around every value that it names.
func TestAgainstLibseccomp(t *testing.T) {
	bin := reference(t)
	for _, family := range families {
		for name, caps := range map[string][]string{"plain": nil, "all": capsInProfile(t)} {
			p, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
			if err != nil {
				t.Fatal(err)
			}
			c := *p
			c.Architectures = family
			asked, diffs := compare(t, bin, &c, family[0], family)
			if asked < 2000 {
				t.Errorf("%v: only %d questions", family, asked)
			}
			t.Logf("%v with capabilities %s: %d answers compared", family, name, asked)
			report(t, fmt.Sprint(family, " ", name), asked, diffs)
		}
	}
}

// capsInProfile are the capabilities that the profile has rules for.
func capsInProfile(t *testing.T) []string {
	t.Helper()
	caps := map[string]bool{}
	for _, s := range profile.DefaultProfile().Syscalls {
		if s.Includes != nil {
			for _, c := range s.Includes.Caps {
				caps[c] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(caps))
}

// Profiles made by chance: every default, action and comparison, rules with several conditions.
func TestRandomProfilesAgainstLibseccomp(t *testing.T) {
	bin := reference(t)
	seed := uint64(os.Getpid())
	r := rand.New(rand.NewPCG(seed, 0))
	total := 0
	for range 60 {
		p := randomProfile(r)
		for _, family := range families {
			p.Architectures = family
			asked, diffs := compare(t, bin, p, family[0], family)
			total += asked
			if report(t, fmt.Sprintf("seed %d, %+v", seed, *p), asked, diffs); t.Failed() {
				return
			}
		}
	}
	t.Logf("seed %d: %d answers compared", seed, total)
}

func randomProfile(r *rand.Rand) *specs.LinuxSeccomp {
	// All of them exist on every architecture: a conditional rule for one that does not (mmap on arm)
	// makes libseccomp 2.5 forget that architecture's other rules.
	names := []string{"read", "write", "openat", "ioctl", "personality", "keyctl", "futex", "kill", "fcntl", "munmap", "getpid", "prctl"}
	ops := []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	acts := []specs.LinuxSeccompAction{specs.ActErrno, specs.ActAllow, specs.ActKillProcess, specs.ActLog, specs.ActTrap, specs.ActKillThread}
	value := func() uint64 {
		v := []uint64{0, 1, 7, 0xff, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 5, 1 << 63, ^uint64(0)}
		return v[r.IntN(len(v))]
	}
	p := &specs.LinuxSeccomp{DefaultAction: acts[r.IntN(len(acts))]}
	used := map[string]bool{}
	for range 1 + r.IntN(8) {
		name := names[r.IntN(len(names))]
		if used[name] {
			continue
		}
		used[name] = true
		s := specs.LinuxSyscall{Names: []string{name}, Action: acts[r.IntN(len(acts))]}
		for i := range uint(r.IntN(4)) {
			a := specs.LinuxSeccompArg{Index: i, Op: ops[r.IntN(len(ops))], Value: value(), ValueTwo: value()}
			if a.Op == specs.OpMaskedEqual {
				a.ValueTwo &= a.Value
			}
			s.Args = append(s.Args, a)
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}
