// Package stdio joins this program's standard streams with a process in the engine: what is typed and printed,
// the keys that detach, signals, and the size of the terminal.
package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"runtime"

	"github.com/moby/term"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

// Streams says which of our streams a process gets.
type Streams struct {
	In, Out, Err bool
	TTY          bool   // the process has a terminal: one raw stream, and keys that detach
	Keys         string // "ctrl-p,ctrl-q", "ctrl-x,x,@"; empty is the first
}

// ctrl-p ctrl-q
var defaultKeys = []byte{16, 17}

// Keys gives the detach keys in use: the flag, else the configuration.
func Keys(a *app.App, flag string) string {
	if flag != "" {
		return flag
	}
	return a.Home.Config().DetachKeys
}

// CheckTTY refuses -t when standard input is no terminal, with a hint for mintty.
func CheckTTY(a *app.App, attachStdin, tty bool) error {
	err := a.In.CheckTTY(attachStdin, tty)
	if err != nil && runtime.GOOS == "windows" {
		return fmt.Errorf("%w.  If you are using mintty, try prefixing the command with 'winpty'", err)
	}
	return err
}

// Attach takes over a connection to the streams of a container.
func Attach(ctx context.Context, c *api.Client, id string, s Streams) (*api.Hijacked, error) {
	q := url.Values{"stream": {"1"}}
	for name, on := range map[string]bool{"stdin": s.In, "stdout": s.Out, "stderr": s.Err} {
		if on {
			q.Set(name, "1")
		}
	}
	if s.Keys != "" {
		q.Set("detachKeys", s.Keys)
	}
	return c.Hijack(ctx, "/containers/"+id+"/attach", q, nil)
}

// Detached says whether Join ended because the detach keys were typed.
func Detached(err error) bool {
	var esc term.EscapeError
	return errors.As(err, &esc)
}

// Join copies between our streams and a taken-over connection until the output ends, the detach keys are typed (see
// Detached), or ctx is done. A terminal is in raw mode meanwhile, and as it was afterwards.
func Join(ctx context.Context, a *app.App, conn *api.Hijacked, s Streams) error {
	j := &joint{a: a, conn: conn, Streams: s}
	if s.In {
		j.in = a.In
	}
	if s.Out {
		j.out = a.Out
	}
	if s.Err {
		j.err = a.Err
		if s.TTY {
			j.err = a.Out
		}
	}
	return j.run(ctx)
}

type joint struct {
	Streams
	a        *app.App
	conn     *api.Hijacked
	in       io.Reader // nil: no input
	out, err io.Writer // nil: not wanted
}

func (j *joint) run(ctx context.Context) error {
	restore, err := j.setRaw()
	if err != nil {
		return fmt.Errorf("unable to setup input stream: %w", err)
	}
	defer restore()
	outputDone := j.copyOutput(restore)
	inputDone, detached := j.copyInput()
	select {
	case err := <-outputDone:
		return err
	case <-inputDone:
		if outputDone == nil {
			return nil
		}
		select {
		case err := <-outputDone:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	case err := <-detached:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// setRaw switches a terminal to raw mode and watches for the detach keys.
func (j *joint) setRaw() (restore func(), err error) {
	if j.in == nil || !j.TTY {
		return func() {}, nil
	}
	if err := j.a.In.SetRaw(); err != nil {
		return nil, err
	}
	if err := j.a.Out.SetRaw(); err != nil {
		j.a.In.Restore()
		return nil, err
	}
	keys := defaultKeys
	if j.Keys != "" {
		custom, err := term.ToBytes(j.Keys)
		if err != nil {
			fmt.Fprintf(j.a.Err, "WARNING: invalid detach escape keys, using default: %s\r\n", err)
		} else {
			keys = custom
		}
	}
	j.in = term.NewEscapeProxy(j.in, keys)
	return func() { j.a.In.Restore(); j.a.Out.Restore() }, nil
}

func (j *joint) copyOutput(restore func()) <-chan error {
	if j.out == nil && j.err == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		if j.out != nil && j.TTY {
			_, err := io.Copy(j.out, j.conn.Reader)
			restore()
			done <- err
			return
		}
		done <- Demux(orDiscard(j.out), orDiscard(j.err), j.conn.Reader, false)
	}()
	return done
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

func (j *joint) copyInput() (done <-chan struct{}, detached <-chan error) {
	d, e := make(chan struct{}), make(chan error, 1)
	go func() {
		if j.in != nil {
			if _, err := io.Copy(j.conn.Conn, j.in); Detached(err) {
				e <- err
				return
			}
		}
		_ = j.conn.CloseWrite()
		close(d)
	}()
	return d, e
}
