// Package runtime is the engine's library for the kernel: an OCI runtime
// configuration in, a process in namespaces and cgroups out.
//
//	Compile   configuration → Program: instructions for gantry-init and facts for clone (pure)
//	Start     Program → Process (package spawn has the protocol, package initproc the other end)
//
// The package keeps no state and writes no records; it knows nothing of images or names.
package runtime
