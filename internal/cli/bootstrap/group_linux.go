package bootstrap

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// inGroup gives a program a process group of its own, which an end of the context then ends: mmdebstrap waits for its children, so
// they have to be told, too. As root it gets mounts of its own as well: what it leaves of them nobody else sees.
func inGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}

// endGroup ends what is left of the group, and waits until nothing is.
func endGroup(cmd *exec.Cmd) {
	if cmd.Process == nil {
		return
	}
	for range 500 {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); errors.Is(err, syscall.ESRCH) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
