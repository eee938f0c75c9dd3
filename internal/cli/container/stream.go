package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/moby/term"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

// defaultDetach is ctrl-p ctrl-q.
var defaultDetach = []byte{16, 17}

// stream joins our standard streams with a taken-over connection.
type stream struct {
	a          *app.App
	conn       *api.Hijacked
	in         io.Reader // nil: no input
	out, err   io.Writer // nil: not wanted
	tty        bool
	detachKeys string
}

// run copies until the output ends, the input was detached, or ctx is done. It returns term.EscapeError after the detach keys.
func (s *stream) run(ctx context.Context) error {
	restore, err := s.input()
	if err != nil {
		return fmt.Errorf("unable to setup input stream: %w", err)
	}
	defer restore()
	outputDone := s.copyOutput(restore)
	inputDone, detached := s.copyInput()
	select {
	case err := <-outputDone:
		return err
	case <-inputDone:
		if s.out != nil || s.err != nil {
			select {
			case err := <-outputDone:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	case err := <-detached:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// input switches a terminal to raw mode and watches for the detach keys.
func (s *stream) input() (restore func(), err error) {
	if s.in == nil || !s.tty {
		return func() {}, nil
	}
	if err := s.a.In.SetRaw(); err != nil {
		return nil, err
	}
	if err := s.a.Out.SetRaw(); err != nil {
		s.a.In.Restore()
		return nil, err
	}
	keys := defaultDetach
	if s.detachKeys != "" {
		custom, err := term.ToBytes(s.detachKeys)
		if err != nil {
			fmt.Fprintf(s.a.Err, "WARNING: invalid detach escape keys, using default: %s\r\n", err)
		} else {
			keys = custom
		}
	}
	s.in = term.NewEscapeProxy(s.in, keys)
	return func() { s.a.In.Restore(); s.a.Out.Restore() }, nil
}

func (s *stream) copyOutput(restore func()) <-chan error {
	done := make(chan error, 1)
	if s.out == nil && s.err == nil {
		return nil
	}
	go func() {
		var err error
		if s.out != nil && s.tty {
			_, err = io.Copy(s.out, s.conn.Reader)
			restore()
		} else {
			err = demux(orDiscard(s.out), orDiscard(s.err), s.conn.Reader, false)
		}
		done <- err
	}()
	return done
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

func (s *stream) copyInput() (done <-chan struct{}, detached <-chan error) {
	d, e := make(chan struct{}), make(chan error, 1)
	go func() {
		if s.in != nil {
			_, err := io.Copy(s.conn.Conn, s.in)
			var esc term.EscapeError
			if errors.As(err, &esc) {
				e <- esc
				return
			}
		}
		_ = s.conn.CloseWrite()
		close(d)
	}()
	return d, e
}

// keys gives the detach keys in use: the flag, else the configuration.
func (a session) keys(flag string) string {
	if flag != "" {
		return flag
	}
	return a.Config().DetachKeys
}

// session is the app with what container verbs share.
type session struct{ *app.App }

// checkTTY refuses -t when standard input is no terminal, with a hint for mintty.
func (a session) checkTTY(attachStdin, tty bool) error {
	err := a.In.CheckTTY(attachStdin, tty)
	if err != nil && runtime.GOOS == "windows" {
		return fmt.Errorf("%w.  If you are using mintty, try prefixing the command with 'winpty'", err)
	}
	return err
}

// startStatus gives the exit status of a failed start: 127 for a command that is not there, 126 for one that cannot be executed.
func startStatus(err error) int {
	msg := err.Error()
	var conn *api.ConnError
	if errors.As(err, &conn) {
		return 125
	}
	for _, s := range []string{"executable file not found", "no such file or directory", "system cannot find the file specified"} {
		if strings.Contains(msg, s) {
			return 127
		}
	}
	for _, s := range []string{"permission denied", "is a directory", "exec format error"} {
		if strings.Contains(msg, s) {
			return 126
		}
	}
	return 125
}
