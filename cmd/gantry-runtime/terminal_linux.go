package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// sendTerminal hands a terminal's master to whoever listens at the socket. It owns master.
func sendTerminal(path string, master int) error {
	defer unix.Close(master)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return fmt.Errorf("console socket %s: %w", path, err)
	}
	if err := unix.Sendmsg(fd, []byte("/dev/ptmx"), unix.UnixRights(master), nil, 0); err != nil {
		return fmt.Errorf("console socket %s: sending the terminal: %w", path, err)
	}
	return nil
}
