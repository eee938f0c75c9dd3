package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// foreground stands between the caller and a process of a container until it ends: it passes on
// signals, and with a terminal input, output and size.
type foreground struct {
	master  *os.File // the terminal's, or nil
	old     *unix.Termios
	signals chan os.Signal
	copied  chan struct{} // closed when the terminal's output has ended
}

// newForeground catches signals from now on: those that come before there is a process reach it then.
func newForeground() *foreground {
	f := &foreground{signals: make(chan os.Signal, 64), copied: make(chan struct{})}
	signal.Notify(f.signals)
	return f
}

// checkConsole refuses what cannot work: a terminal needs somebody who takes it.
func checkConsole(terminal, detach bool, socket string) error {
	switch {
	case terminal && detach && socket == "":
		return errors.New("process.terminal is set: give --console-socket, a socket that takes the terminal, or do not detach")
	case !terminal && socket != "":
		return errors.New("--console-socket is given, but process.terminal is not set")
	case terminal && !detach && socket != "":
		return errors.New("--console-socket is for detached processes: without --detach the terminal is this one")
	}
	return nil
}

// take keeps a terminal's master; it owns fd. The terminal gets the caller's size.
func (f *foreground) take(fd int) error {
	// Lines end as the program ends them; the caller's terminal adds what it needs.
	if t, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		t.Oflag &^= unix.ONLCR
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, t)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	f.master = os.NewFile(uintptr(fd), "terminal")
	f.resize()
	return nil
}

// resize gives the terminal the size of the caller's, if that is one.
func (f *foreground) resize() {
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err == nil && f.master != nil {
		_ = f.control(func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
	}
}

func (f *foreground) control(do func(fd int) error) error {
	raw, err := f.master.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	return errors.Join(raw.Control(func(fd uintptr) { inner = do(int(fd)) }), inner)
}

// open starts the relay. What the caller types goes through as it is: the terminal in the container interprets it.
func (f *foreground) open() error {
	if f.master == nil {
		close(f.copied)
		return nil
	}
	go func() { _, _ = io.Copy(os.Stdout, f.master); close(f.copied) }() // ends with EIO when nobody has it open
	old, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err == nil {
		raw := *old
		raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
		if err := unix.IoctlSetTermios(0, unix.TCSETS, &raw); err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		f.old = old
	}
	go func() { _, _ = io.Copy(f.master, os.Stdin) }()
	return nil
}

// close gives the caller's terminal back as it was.
func (f *foreground) close() {
	if f.old != nil {
		_ = unix.IoctlSetTermios(0, unix.TCSETSF, f.old)
		f.old = nil
	}
	if f.master != nil {
		_ = f.master.Close()
	}
}

// wait serves a child until it ends and gives its exit code as shells do. With orphans it
// reaps every other child too.
func (f *foreground) wait(pid int, orphans bool) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0) // our own child: it stays until it is reaped below
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	go func() {
		for s := range f.signals {
			switch sig := s.(unix.Signal); sig {
			case unix.SIGWINCH:
				f.resize()
			case unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG: // ours; SIGURG is Go's scheduler's
			default:
				_ = unix.PidfdSendSignal(pidfd, sig, nil, 0)
			}
		}
	}()
	code := reap(pid, orphans)
	select {
	case <-f.copied:
	case <-time.After(200 * time.Millisecond): // a process that it left behind keeps the terminal
	}
	return code, nil
}

// reap waits for pid, and with orphans for whatever ends before.
func reap(pid int, orphans bool) int {
	which := pid
	if orphans {
		which = -1
	}
	for {
		var st unix.WaitStatus
		got, err := unix.Wait4(which, &st, unix.WALL, nil)
		switch {
		case err == unix.EINTR, err == nil && got != pid:
			continue
		case err != nil:
			return 255
		case st.Signaled():
			return 128 + int(st.Signal())
		}
		return st.ExitStatus()
	}
}

// exitCode ends this program with the code of the process that it ran.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }
