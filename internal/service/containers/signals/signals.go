// Package signals reads the signals that users name.
package signals

import (
	"syscall"

	"github.com/moby/sys/signal"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// Parse reads a signal's name or number.
func Parse(s string) (syscall.Signal, error) {
	num, err := signal.ParseSignal(s)
	if err != nil || num < 1 || num > 64 {
		return 0, classed.Invalid("invalid signal: %s", s)
	}
	return num, nil
}

// Same tells whether s names a signal.
func Same(s string, num syscall.Signal) bool {
	n, err := signal.ParseSignal(s)
	return err == nil && n == num
}
