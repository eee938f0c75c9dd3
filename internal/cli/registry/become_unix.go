//go:build !windows

package registry

import (
	"fmt"
	"syscall"
)

// become executes another program in this process: signals, terminal and exit status are then its own.
func become(path string, args, env []string) error {
	if err := syscall.Exec(path, append([]string{path}, args...), env); err != nil {
		return fmt.Errorf("executing %s: %w", path, err)
	}
	return nil
}
