package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"time"
)

// remoteDial is what runs on the other side of ssh: our own bridge to the engine's socket, docker's else.
const remoteDial = `if command -v gantry >/dev/null 2>&1; then exec gantry system dial-stdio; else exec docker system dial-stdio; fi`

// dialSSH reaches an engine through ssh://[user@]host[:port][/socket].
func dialSSH(host string) (net.Conn, error) {
	args, err := sshArgs(host)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("ssh", args...)
	cmd.SysProcAttr = detachedProcess()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c := &cmdConn{cmd: cmd, in: stdin, out: stdout, what: "ssh " + host}
	cmd.Stderr = &c.stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return c, nil
}

func sshArgs(host string) ([]string, error) {
	u, err := url.Parse(host)
	if err != nil {
		return nil, fmt.Errorf("invalid SSH URL: %w", err)
	}
	if _, set := u.User.Password(); set {
		return nil, errors.New("invalid SSH URL: plain-text password is not supported")
	}
	switch {
	case u.Hostname() == "":
		return nil, errors.New("invalid SSH URL: no host specified")
	case u.RawQuery != "":
		return nil, fmt.Errorf("invalid SSH URL: query parameters are not allowed: %q", u.RawQuery)
	case u.Fragment != "":
		return nil, fmt.Errorf("invalid SSH URL: fragments are not allowed: %q", u.Fragment)
	}
	args := []string{"-o", "ConnectTimeout=30", "-T"}
	if user := u.User.Username(); user != "" {
		args = append(args, "-l", user)
	}
	if u.Port() != "" {
		args = append(args, "-p", u.Port())
	}
	remote := remoteDial
	if u.Path != "" && u.Path != "/" {
		remote = "if command -v gantry >/dev/null 2>&1; then exec gantry --host " + quote("unix://"+u.Path) + " system dial-stdio; else exec docker --host " + quote("unix://"+u.Path) + " system dial-stdio; fi"
	}
	return append(args, "--", u.Hostname(), remote), nil
}

// quote makes one word of a POSIX shell out of s.
func quote(s string) string {
	return "'" + string(bytes.ReplaceAll([]byte(s), []byte("'"), []byte(`'\''`))) + "'"
}

// cmdConn is a connection through a process's standard streams.
type cmdConn struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	what   string
	stderr tail
	once   sync.Once
	err    error
}

func (c *cmdConn) ended(err error) error {
	if err != io.EOF && !errors.Is(err, os.ErrClosed) {
		return err
	}
	c.once.Do(func() {
		done := make(chan error, 1)
		go func() { done <- c.cmd.Wait() }()
		select {
		case c.err = <-done:
		case <-time.After(3 * time.Second):
			_ = c.cmd.Process.Kill()
			c.err = <-done
		}
	})
	if c.err != nil {
		return fmt.Errorf("command [%s] has exited with %v, make sure the URL is valid, and gantry or docker is installed on the remote host: stderr=%s", c.what, c.err, c.stderr.String())
	}
	return io.EOF
}

func (c *cmdConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if err != nil {
		err = c.ended(err)
	}
	return n, err
}

// Write tells what the process said when it is gone already: a broken pipe alone explains nothing.
func (c *cmdConn) Write(p []byte) (int, error) {
	n, err := c.in.Write(p)
	if err != nil {
		if why := c.ended(io.EOF); why != io.EOF {
			err = why
		}
	}
	return n, err
}

func (c *cmdConn) CloseWrite() error                { return c.in.Close() }
func (c *cmdConn) LocalAddr() net.Addr              { return pipeAddr(c.what) }
func (c *cmdConn) RemoteAddr() net.Addr             { return pipeAddr(c.what) }
func (c *cmdConn) SetDeadline(time.Time) error      { return nil }
func (c *cmdConn) SetReadDeadline(time.Time) error  { return nil }
func (c *cmdConn) SetWriteDeadline(time.Time) error { return nil }

// Close ends the process: the other side sees the end of its input, and is killed when that does not help.
func (c *cmdConn) Close() error {
	_ = c.in.Close()
	_ = c.out.Close()
	_ = c.ended(os.ErrClosed)
	return nil
}

type pipeAddr string

func (pipeAddr) Network() string  { return "stdio" }
func (p pipeAddr) String() string { return string(p) }

// tail keeps the last 4 KiB of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - 4096; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
