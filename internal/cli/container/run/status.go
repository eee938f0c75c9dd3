package run

import (
	"errors"
	"strings"

	"github.com/gantry-engine/gantry/internal/cli/api"
)

// startStatus gives the exit status of a failed start: 127 for a command that is not there, 126 for one that cannot be
// executed, else 125. The API has one status for all of them, so that only the text tells them apart.
func startStatus(err error) int {
	var conn *api.ConnError
	if errors.As(err, &conn) {
		return 125
	}
	msg := err.Error()
	for _, s := range []string{"executable file not found", "no such file or directory", "system cannot find the file specified"} {
		if strings.Contains(msg, s) {
			return 127
		}
	}
	for _, s := range []string{"permission denied", "is a directory", "exec format error"} {
		if strings.Contains(msg, s) {
			return 126
		}
	}
	return 125
}
