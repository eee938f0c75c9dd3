//go:build !windows

package engine

import "syscall"

// detachedProcess keeps ssh out of our process group: Ctrl-C is for the container.
func detachedProcess() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
