//go:build linux && (amd64 || arm64)

package rawfork

// Fork makes the system call trap (clone or clone3) with two arguments and returns what the kernel says in each of
// the two processes: 0 in the child, in the parent the child's number or a negated error.
//
// With CLONE_VM|CLONE_VFORK the child has the parent's stack. It may write only below the frame that called Fork:
// the caller is not to be inlined, and in the child it never returns. (The compiler calls assembly
// of another package without a wrapper, whose frame would not last; the test notices one.)
//
//go:noescape
func Fork(trap, a1, a2 uintptr) (r1 uintptr)
