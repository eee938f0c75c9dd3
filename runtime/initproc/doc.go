// Package initproc is the interpreter that gantry-init runs: it reads its program
// from the parent's socket (protocol: package spawn; instructions: package
// program) and carries it out with plain system calls, ending in execve.
//
// Everything happens on the main thread, because capabilities, seccomp and ids
// belong to threads. The package imports syscall and unsafe only: start-up time is on
// every container's bill. Paths inside the container are resolved by openat2
// with RESOLVE_IN_ROOT, never by string; settings below /proc are written through a
// private procfs that no mount of the container can cover (CVE-2025-52881).
package initproc
