//go:build !windows

package stdio

import (
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Enabling one signal makes the Go runtime wake a thread of its own and wait for it; all of them are a
// millisecond and more, which a short command would pay twice. So the signals that people and supervisors send
// are caught at once, the others when the command turns out to last.
const lasting = 100 * time.Millisecond

var usual = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2}

// catchAll delivers every signal that may be forwarded to a container. The channel is closed by stop.
func catchAll() (ch <-chan os.Signal, stop func()) {
	var mu sync.Mutex
	stopped := false
	caught := make(chan os.Signal, 128)
	signal.Notify(caught, usual...)
	rest := time.AfterFunc(lasting, func() {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			signal.Notify(caught)
		}
	})
	return caught, func() {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			stopped = true
			rest.Stop()
			signal.Stop(caught)
			close(caught)
		}
	}
}

// forwardable names a signal for the engine; empty means it is ours.
func forwardable(s os.Signal) string {
	n, ok := s.(syscall.Signal)
	if !ok {
		return ""
	}
	switch n {
	case syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGTTIN, syscall.SIGTTOU:
		return ""
	}
	return strconv.Itoa(int(n))
}

// watchSize tells whenever the terminal's size changes.
func watchSize() (changed <-chan os.Signal, stop func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGWINCH)
	return ch, func() { signal.Stop(ch) }
}
