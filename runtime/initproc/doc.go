// Package initproc is the interpreter that gantry-init runs: it reads its program
// from the parent's socket (protocol: package spawn; instructions: package
// program) and carries it out with plain system calls, ending in execve.
//
// The interpreter (machine) hands each instruction to the part whose job it is: socket talks to the
// parent, rootfs attaches the container's root and resolves its paths, overlay, newMount, bindMount, device and masks put
// something in it, procfs writes settings, accounts and user say who the program is and capSets what it
// may, workdir, limits and command are the program's own, and successor is gantry-init as PID 1.
//
// Everything happens on the main thread, because capabilities, seccomp and ids
// belong to threads. The package imports syscall and unsafe only: start-up time is on
// every container's bill. Paths inside the container are resolved by openat2
// with RESOLVE_IN_ROOT, never by string; settings below /proc are written through a
// private procfs that no mount of the container can cover (CVE-2025-52881).
package initproc
