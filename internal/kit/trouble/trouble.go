// Package trouble logs what goes wrong again and again once, and says when it is over.
package trouble

import (
	"log/slog"
	"sync"
)

// Log remembers the troubles that it has logged. The zero value is ready; it is safe
// for concurrent use.
type Log struct {
	mu   sync.Mutex
	said map[string]string // text of the error, by trouble
}

// Say logs a trouble if it is new or has another cause than before; with a nil err it
// logs, once, that it is over. what is a sentence without its cause.
func (l *Log) Say(what string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == l.said[what]:
		return
	case text != "":
		slog.Warn(what, "error", text)
	default:
		slog.Info("no longer: " + what)
	}
	if l.said == nil {
		l.said = map[string]string{}
	}
	l.said[what] = text
}
