package main

import (
	"encoding/json"
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// sendTerminal hands a terminal's master to whoever listens at the socket. It owns master.
func sendTerminal(path string, master int) error {
	if err := sendDescriptor(path, []byte("/dev/ptmx"), master); err != nil {
		return fmt.Errorf("console socket %s: %w", path, err)
	}
	return nil
}

// sendListener hands a seccomp filter's listener, with the state of the process, to the agent that the configuration
// names. It owns fd.
func sendListener(filter *specs.LinuxSeccomp, state *specs.State, pid, fd int) error {
	if filter == nil || filter.ListenerPath == "" {
		unix.Close(fd)
		return errors.New("the filter notifies, but linux.seccomp.listenerPath names no agent that would listen")
	}
	text, err := json.Marshal(specs.ContainerProcessState{Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: pid,
		Metadata: filter.ListenerMetadata, State: *state})
	if err != nil {
		unix.Close(fd)
		return err
	}
	if err := sendDescriptor(filter.ListenerPath, text, fd); err != nil {
		return fmt.Errorf("seccomp listener %s: %w", filter.ListenerPath, err)
	}
	return nil
}

func sendDescriptor(path string, text []byte, fd int) error {
	defer unix.Close(fd)
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.Connect(s, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	return unix.Sendmsg(s, text, unix.UnixRights(fd), nil, 0)
}
