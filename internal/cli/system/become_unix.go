//go:build !windows

package system

import "syscall"

// become replaces this program by another one.
func become(path string, argv, env []string) error { return syscall.Exec(path, argv, env) }
