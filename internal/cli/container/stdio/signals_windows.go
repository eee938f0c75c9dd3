package stdio

import (
	"os"
	"os/signal"
	"sync"
	"time"
)

// catchAll delivers every signal that may be forwarded to a container. The channel is closed by stop.
func catchAll() (ch <-chan os.Signal, stop func()) {
	caught := make(chan os.Signal, 16)
	signal.Notify(caught, os.Interrupt)
	return caught, sync.OnceFunc(func() { signal.Stop(caught); close(caught) })
}

// forwardable names a signal for the engine; empty means it is ours.
func forwardable(s os.Signal) string {
	if s == os.Interrupt {
		return "INT"
	}
	return ""
}

// watchSize ticks: a Windows console does not tell when its size changes.
func watchSize() (changed <-chan time.Time, stop func()) {
	t := time.NewTicker(250 * time.Millisecond)
	return t.C, t.Stop
}
