package sibling

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// Program is a process to start.
type Program struct {
	Exe     string   // path
	Network string   // of the socket: "unix" or "unixpacket"
	Socket  string   // path; what lies there is replaced
	Env     []string // besides failpoints
	Stderr  *os.File // nil drops it
}

// Start starts a program in a session of its own: it outlives this daemon. It has the socket's path as its argument and the
// listening socket as file 3, so that there is nothing to wait for before its first client connects.
func Start(p Program) error {
	name := filepath.Base(p.Exe)
	if err := os.Remove(p.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix(p.Network, &net.UnixAddr{Name: p.Socket, Net: p.Network})
	if err != nil {
		return fmt.Errorf("making the socket of %s: %w", name, err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(p.Socket, 0o600); err != nil {
		return err
	}
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(p.Exe, p.Socket)
	cmd.ExtraFiles = []*os.File{f}
	cmd.Dir = "/"
	if p.Stderr != nil {
		cmd.Stderr = p.Stderr
	}
	cmd.Env = append(p.Env, failpoint.Env()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("starting %s: %w", name, err), os.Remove(p.Socket))
	}
	go func() { _ = cmd.Wait() }() // reaps it if it ends before this daemon
	return nil
}
