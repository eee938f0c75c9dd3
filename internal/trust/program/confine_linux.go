package program

import (
	"os/exec"
	"syscall"
)

// confine has the program end with us and, if that was asked for, reach no network. Its other rights it gives up itself.
func (p Program) confine(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.Alone {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC
	}
	cmd.Dir = "/"
}
