package seccomp

import (
	"encoding/binary"
	"testing"

	profile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
)

// verdict runs a filter in a virtual machine of its own.
func verdict(t *testing.T, f *Filter, arch, nr uint32, args ...uint64) uint32 {
	t.Helper()
	var raw []bpf.Instruction
	for c := f.Code; len(c) > 0; c = c[8:] {
		raw = append(raw, bpf.RawInstruction{Op: binary.NativeEndian.Uint16(c), Jt: c[2], Jf: c[3], K: binary.NativeEndian.Uint32(c[4:])}.Disassemble())
	}
	vm, err := bpf.NewVM(raw)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 64) // the machine reads words as big endian
	binary.BigEndian.PutUint32(data, nr)
	binary.BigEndian.PutUint32(data[4:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
	}
	got, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(got)
}

func TestDefaultProfile(t *testing.T) {
	p, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := compile(p, specs.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	const x86, x64 = 0x40000003, 0xc000003e
	for name, c := range map[string]struct {
		arch, nr uint32
		args     []uint64
		want     uint32
	}{
		"read":                 {x64, 0, nil, retAllow},
		"read, 32 bit":         {x86, 3, nil, retAllow},
		"read, x32":            {x64, x32Bit, nil, retAllow},
		"mount":                {x64, 165, nil, retErrno | eperm},
		"not yet invented":     {x64, 5000, nil, retErrno | enosys},
		"clone, user ns":       {x64, 56, []uint64{0x10000000}, retErrno | eperm},
		"clone, thread":        {x64, 56, []uint64{0x3d0f00}, retAllow},
		"clone3":               {x64, 435, nil, retErrno | enosys},
		"personality 0":        {x64, 135, []uint64{0}, retAllow},
		"personality 1":        {x64, 135, []uint64{1}, retErrno | eperm},
		"personality 2^32":     {x64, 135, []uint64{1 << 32}, retErrno | eperm},
		"socket AF_VSOCK":      {x64, 41, []uint64{40}, retErrno | eperm},
		"foreign architecture": {0x16, 0, nil, retKillThread},
	} {
		if got := verdict(t, f, c.arch, c.nr, c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", name, got, c.want)
		}
	}
}

// Every comparison is tried on both sides of its border, in both halves of the argument.
func TestComparisons(t *testing.T) {
	const x64 = 0xc000003e
	values := []uint64{0, 1, 5, 6, 1 << 32, 5 << 32, 5<<32 | 5, 5<<32 | 6, 6 << 32, ^uint64(0)}
	ops := map[specs.LinuxSeccompOperator]func(a, v, w uint64) bool{
		specs.OpEqualTo:      func(a, v, _ uint64) bool { return a == v },
		specs.OpNotEqual:     func(a, v, _ uint64) bool { return a != v },
		specs.OpLessThan:     func(a, v, _ uint64) bool { return a < v },
		specs.OpLessEqual:    func(a, v, _ uint64) bool { return a <= v },
		specs.OpGreaterThan:  func(a, v, _ uint64) bool { return a > v },
		specs.OpGreaterEqual: func(a, v, _ uint64) bool { return a >= v },
		specs.OpMaskedEqual:  func(a, v, w uint64) bool { return a&v == w },
	}
	for op, holds := range ops {
		for _, v := range values {
			w := v & (5<<32 | 5)
			f, err := compile(&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{
				Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 2, Op: op, Value: v, ValueTwo: w}}}}}, specs.ArchX86_64)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range values {
				want := uint32(retErrno | eperm)
				if holds(a, v, w) {
					want = retAllow
				}
				if got := verdict(t, f, x64, 0, 0, 0, a); got != want {
					t.Errorf("%s %#x with %#x (and %#x): %#x, want %#x", op, a, v, w, got, want)
				}
			}
		}
	}
}
