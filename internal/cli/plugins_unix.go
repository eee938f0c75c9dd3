//go:build !windows

package cli

import "syscall"

// execPlugin becomes the plugin: signals, terminal and exit status are then its own.
func execPlugin(path string, args, env []string) error {
	return syscall.Exec(path, append([]string{path}, args...), env)
}
