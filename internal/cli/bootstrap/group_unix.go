//go:build !windows

package bootstrap

import (
	"os/exec"
	"syscall"
)

// inGroup gives a program a process group of its own, which end then ends: mmdebstrap waits for its children, so they have to be
// told, too.
func inGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}
