package publish

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// TakenError is a port that gantry-net could not bind.
type TakenError struct{ netproto.Taken }

func (e *TakenError) Error() string {
	if e.Owner != "" {
		return fmt.Sprintf("port %d is held by container %s", e.Port, e.Owner)
	}
	return fmt.Sprintf("port %d: %s", e.Port, e.Cause)
}

// Client talks to gantry-net and starts it when the first port is published.
type Client struct {
	exe, socket string

	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
}

// NewClient makes a client. exe is gantry-net's executable, socket the path of its
// UNIX socket below the exec root.
func NewClient(exe, socket string) *Client { return &Client{exe: exe, socket: socket} }

// Running tells whether a gantry-net answers, without starting one.
func (c *Client) Running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil && c.alive() || c.dial() == nil
}

// Reserve binds all wants or none.
func (c *Client) Reserve(ctx context.Context, owner string, wants []netproto.Want) ([]uint16, error) {
	a, err := c.call(ctx, netproto.Request{Op: "reserve", Owner: owner, Wants: wants}, true)
	switch {
	case err != nil:
		return nil, err
	case a.Taken != nil:
		return nil, &TakenError{*a.Taken}
	case len(a.Ports) != len(wants):
		return nil, fmt.Errorf("gantry-net bound %d ports of %d", len(a.Ports), len(wants))
	}
	return a.Ports, nil
}

// Release closes what owner holds; without a gantry-net nothing is held.
func (c *Client) Release(ctx context.Context, owner string) error {
	_, err := c.call(ctx, netproto.Request{Op: "release", Owner: owner}, false)
	return err
}

// Keep closes what nobody of owners holds.
func (c *Client) Keep(ctx context.Context, owners []string) error {
	_, err := c.call(ctx, netproto.Request{Op: "keep", Owners: owners}, false)
	return err
}

// Close hangs up. gantry-net goes on while it holds a port.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hangUp()
	return nil
}

func (c *Client) hangUp() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *Client) call(ctx context.Context, req netproto.Request, start bool) (netproto.Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil || !c.alive() {
		err := c.dial()
		if err != nil && !start {
			return netproto.Answer{}, nil
		}
		if err != nil {
			err = c.launch(ctx)
		}
		if err != nil {
			return netproto.Answer{}, err
		}
	}
	a, err := c.exchange(ctx, req)
	if err != nil {
		c.hangUp() // the stream's position is unknown
		return a, fmt.Errorf("asking gantry-net to %s ports: %w", req.Op, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("gantry-net: %s", a.Error)
	}
	return a, nil
}

const patience = 10 * time.Second

func (c *Client) exchange(ctx context.Context, req netproto.Request) (a netproto.Answer, err error) {
	deadline := time.Now().Add(patience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return a, err
	}
	line, err := json.Marshal(req)
	if err != nil {
		return a, err
	}
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		return a, err
	}
	answer, err := c.in.ReadBytes('\n')
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(answer, &a)
}

// alive looks without waiting whether the other side has hung up.
func (c *Client) alive() bool {
	raw, err := c.conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ok = n > 0 || errors.Is(err, syscall.EAGAIN)
	})
	return ok && err == nil
}

func (c *Client) dial() error {
	c.hangUp()
	conn, err := net.DialTimeout("unix", c.socket, patience)
	if err != nil {
		return err
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
	return nil
}

// launch starts gantry-net in a session of its own: it outlives this daemon. It is
// handed the listening socket, so that there is nothing to wait for.
func (c *Client) launch(ctx context.Context) error {
	if err := os.Remove(c.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("making the socket of gantry-net: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(c.socket, 0o600); err != nil {
		return err
	}
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(c.exe, c.socket)
	cmd.ExtraFiles = []*os.File{f}
	cmd.Dir = "/"
	cmd.Env = []string{"GOMAXPROCS=1", "GOGC=50"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = os.Remove(c.socket)
		return errNoHelper(err)
	}
	go func() { _ = cmd.Wait() }() // reaps it if it ends before this daemon
	if err := c.dial(); err != nil {
		return fmt.Errorf("connecting to gantry-net: %w", err)
	}
	return ctx.Err()
}
