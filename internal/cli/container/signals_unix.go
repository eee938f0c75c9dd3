//go:build !windows

package container

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// catchAll delivers every signal that may be forwarded to a container.
func catchAll() (chan os.Signal, func()) {
	ch := make(chan os.Signal, 128)
	signal.Notify(ch)
	return ch, func() { signal.Stop(ch) }
}

// forwardable names a signal for the engine; empty means it is ours.
func forwardable(s os.Signal) string {
	n, ok := s.(syscall.Signal)
	if !ok {
		return ""
	}
	switch n {
	case syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGTTIN, syscall.SIGTTOU:
		return ""
	}
	return strconv.Itoa(int(n))
}

// watchResize calls f whenever the terminal's size changes.
func watchResize(f func()) (stop func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGWINCH)
	go func() {
		for range ch {
			f()
		}
	}()
	return func() { signal.Stop(ch) }
}
