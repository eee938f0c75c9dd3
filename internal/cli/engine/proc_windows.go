package engine

import "syscall"

// detachedProcess keeps ssh out of our console's process group: Ctrl-C is for the container.
func detachedProcess() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
