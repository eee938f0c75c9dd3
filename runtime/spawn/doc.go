// Package spawn makes the process that becomes a container: one clone, one exec
// of gantry-init from a sealed memory file, no helper process.
//
// # Protocol
//
//	parent                              gantry-init
//	  │  clone3 (vfork semantics; a plain fork when id maps must be written)
//	  ├──────────────────────────────────►│ enter cgroups, setns, dup, execveat
//	  │  program                          │
//	  ├──────────────────────────────────►│ mounts, devices, …
//	  │◄────────────── W warning ─────────┤   any number
//	  │◄────────────── T + master fd ─────┤   only with a terminal
//	  ├─────────────── G ────────────────►│
//	  │◄────────────── H hook point ──────┤   only with hooks
//	  ├─────────────── G + state JSON ───►│
//	  │◄────────────── N + listener fd ───┤   only with a notifying seccomp filter
//	  ├─────────────── G ────────────────►│
//	  │◄────────────── R ready ───────────┤   only with a start gate (OCI create)
//	  │                                   │ waits for a byte on the gate
//	  │◄────────────── E ─────────────────┤ execve; the socket closes itself
//	  │   end of file = the program runs  │
//	  │◄────────────── X error ───────────┤ instead, at any point
//
// Nothing here reaps the new process: that is the caller's, who gets its PID and
// pidfd as soon as clone returns. (The short-lived middle process of a join is reaped here; it
// sends no signal and a waitid without __WCLONE does not see it.)
package spawn
