package keeper_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/creack/pty"

	"github.com/gantry-engine/gantry/internal/keeper"
)

// plainSpawner is an honest fake of the runtime: the launch's program is a shell
// script, run as a plain child that waits for the go-ahead like gantry-init does.
type plainSpawner struct{}

func (plainSpawner) Close()       {}
func (plainSpawner) Ran(int) bool { return false }

func (plainSpawner) Spawn(r keeper.SpawnRequest) (keeper.Spawned, error) {
	none := keeper.Spawned{MountNS: -1}
	gateR, gateW, err := os.Pipe()
	if err != nil {
		return none, err
	}
	defer gateR.Close()
	defer gateW.Close()
	// End of file at the gate instead of a byte: the keeper died, and so does the child.
	cmd := exec.Command("/bin/sh", "-c", `read go <&3 || exit 99; exec 3<&-; eval "$0"`, string(r.Launch.Program))
	cmd.ExtraFiles = []*os.File{gateR}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pidfd := -1
	cmd.SysProcAttr.PidFD = &pidfd
	var files []*os.File
	file := func(fd int, name string) *os.File {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil
		}
		f := os.NewFile(uintptr(d), name)
		files = append(files, f)
		return f
	}
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	master := -1
	if r.Launch.Terminal {
		m, s, err := pty.Open()
		if err != nil {
			return none, err
		}
		files = append(files, m, s)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = s, s, s
		cmd.SysProcAttr.Setctty = true
		if master, err = unix.FcntlInt(m.Fd(), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return none, err
		}
	} else {
		if r.Stdin >= 0 {
			cmd.Stdin = file(r.Stdin, "stdin")
		}
		cmd.Stdout, cmd.Stderr = file(r.Stdout, "stdout"), file(r.Stderr, "stderr")
	}
	if err := cmd.Start(); err != nil {
		return none, err
	}
	pid := cmd.Process.Pid
	if err := r.Created(pid, pidfd); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = cmd.Process.Wait()
		return none, err
	}
	if master >= 0 {
		if err := r.Terminal(master); err != nil {
			return none, err
		}
	}
	if strings.HasPrefix(string(r.Launch.Program), "#fail") {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = cmd.Process.Wait()
		return none, fmt.Errorf("told to fail")
	}
	started := time.Now()
	_, err = gateW.WriteString("go\n")
	return keeper.Spawned{Started: started, MountNS: -1}, err
}
