//go:build linux && (amd64 || arm64)

package spawn

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/gantry-engine/gantry/runtime/program"
)

// ReadReport reads what init writes to Config.Report from the moment that its gate opens, until it
// executes the user's program (nil) or fails (*Error). The reader must see the end of file when init closes
// its descriptor, so nobody else may hold it for writing.
func ReadReport(r io.Reader, warning func(text string)) error {
	executing := false
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			switch {
			case executing && errors.Is(err, io.EOF):
				return nil
			case errors.Is(err, io.EOF):
				return &Error{Stage: "init", Text: "the container's first process was killed before it could execute the program (out of memory, or killed from outside)"}
			}
			return failed("init", "report", err)
		}
		n := binary.LittleEndian.Uint32(head[1:])
		if n > maxMessage {
			return &Error{Stage: "init", Text: "gantry-init sent a message that is too long"}
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(r, payload); err != nil {
			return failed("init", "report", err)
		}
		switch head[0] {
		case program.MsgError:
			return decodeError(payload)
		case program.MsgWarning:
			if warning != nil {
				warning(string(payload))
			}
		}
		executing = head[0] == program.MsgExec
	}
}
