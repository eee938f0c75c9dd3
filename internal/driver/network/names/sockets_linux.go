package names

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/netproto"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// open makes a container's two sockets in its namespace, bound at 127.0.0.11 and port. The caller closes them.
func open(ns *os.File, port int) (files []*os.File, err error) {
	err = netlink.Do(ns, func() error {
		for _, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
			f, err := bound(kind, port)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		return nil
	})
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func bound(kind, port int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "resolver")
	if kind == unix.SOCK_STREAM { // connections of a former gantry-net may linger
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: netproto.ResolverAddress.As4()})
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 64)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("binding %s:%d in a container's namespace: %w", netproto.ResolverAddress, port, err), f.Close())
	}
	return f, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
