// Command gantry-lazy serves layers that are not here yet: as FUSE file systems that fetch what is read, and the rest in
// the background (internal/lazy). gantryd starts it with the first such layer and tells it what to do over a UNIX socket
// (internal/lazyproto). It outlives gantryd; it ends when it serves nothing and nobody is connected.
//
//	gantry-lazy SOCKET   descriptor 3 is the listening UNIX socket at SOCKET
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/gantry-engine/gantry/internal/lazy"
)

// linger is how long it waits for gantryd when it serves nothing.
const linger = 3 * time.Second

// memory is what the Go runtime tries to stay below, in bytes; trees of very large layers go beyond.
const memory = 96 << 20

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "gantry-lazy is started by gantryd with its socket: gantry-lazy SOCKET")
		os.Exit(125)
	}
	debug.SetMemoryLimit(memory)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	syscall.Umask(0o022)
	f := os.NewFile(3, os.Args[1])
	l, err := net.FileListener(f)
	_ = f.Close()
	u, ok := l.(*net.UnixListener)
	if err != nil || !ok {
		fmt.Fprintln(os.Stderr, "gantry-lazy: descriptor 3 is not a listening UNIX socket:", err)
		os.Exit(1)
	}
	s := lazy.NewServer(open)
	go s.Accept(u)
	s.WaitUntilIdle(linger)
	_ = os.Remove(os.Args[1])
}
