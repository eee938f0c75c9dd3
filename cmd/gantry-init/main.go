//go:build linux

// Gantry-init is the first code in a container: it sets up mounts, devices, ids
// and limits as its program says, and executes the user's program. See
// runtime/initproc. It is started by the engine only, with a socket to it.
package main

import (
	"runtime"
	"syscall"

	"github.com/gantry-engine/gantry/runtime/initproc"
)

func init() { runtime.LockOSThread() }

// The socket's number is given by the engine; there is nothing else to say.
func main() {
	socket, parked, ok := arguments()
	if !ok {
		_, _ = syscall.Write(2, []byte("gantry-init is started by the engine, not by hand\n"))
		syscall.Exit(127)
	}
	syscall.Exit(initproc.Main(socket, parked))
}
