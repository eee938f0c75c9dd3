package container

import (
	"os"
	"os/signal"
	"time"
)

// catchAll delivers every signal that may be forwarded to a container.
func catchAll() (chan os.Signal, func()) {
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, os.Interrupt)
	return ch, func() { signal.Stop(ch) }
}

// forwardable names a signal for the engine; empty means it is ours.
func forwardable(s os.Signal) string {
	if s == os.Interrupt {
		return "INT"
	}
	return ""
}

// watchResize calls f now and then: a Windows console does not tell when its size changes.
func watchResize(f func()) (stop func()) {
	t := time.NewTicker(250 * time.Millisecond)
	go func() {
		for range t.C {
			f()
		}
	}()
	return t.Stop
}
