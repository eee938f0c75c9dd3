package app

import (
	"bufio"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// Input is standard input, with what a terminal needs.
type Input struct {
	io.Reader
	fd    int
	tty   bool
	state *term.State
	mu    sync.Mutex
}

// NewInput wraps a file or any reader.
func NewInput(r io.Reader) *Input {
	in := &Input{Reader: r, fd: -1}
	if f, ok := r.(*os.File); ok {
		in.fd = int(f.Fd())
		in.tty = term.IsTerminal(in.fd)
	}
	return in
}

// IsTerminal says whether a person types here.
func (in *Input) IsTerminal() bool { return in.tty }

// SetRaw switches the terminal to raw mode, once.
func (in *Input) SetRaw() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.tty || in.state != nil || os.Getenv("NORAW") != "" {
		return nil
	}
	st, err := term.MakeRaw(in.fd)
	if err == nil {
		in.state = st
	}
	return err
}

// Restore undoes SetRaw.
func (in *Input) Restore() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.state != nil {
		_ = term.Restore(in.fd, in.state)
		in.state = nil
	}
}

// CheckTTY refuses a request for a terminal when input is none.
func (in *Input) CheckTTY(attachStdin, ttyMode bool) error {
	if ttyMode && attachStdin && !in.tty {
		return errors.New("the input device is not a TTY")
	}
	return nil
}

// ReadPassword reads a line without echo.
func (in *Input) ReadPassword() (string, error) {
	b, err := term.ReadPassword(in.fd)
	return string(b), err
}

// ReadLine reads a line, without its end.
func (in *Input) ReadLine() (string, error) {
	s, err := bufio.NewReader(in.Reader).ReadString('\n')
	if err == io.EOF && s != "" {
		err = nil
	}
	for len(s) > 0 && (s[len(s)-1] == '\n' || s[len(s)-1] == '\r') {
		s = s[:len(s)-1]
	}
	return s, err
}

// Output is standard output, with what a terminal needs.
type Output struct {
	io.Writer
	fd    int
	tty   bool
	state *term.State
}

// NewOutput wraps a file or any writer.
func NewOutput(w io.Writer) *Output {
	out := &Output{Writer: w, fd: -1}
	if f, ok := w.(*os.File); ok {
		out.fd = int(f.Fd())
		out.tty = term.IsTerminal(out.fd)
	}
	return out
}

// IsTerminal says whether a person looks at it.
func (o *Output) IsTerminal() bool { return o.tty }

// Size is height and width of the terminal, zero when there is none.
func (o *Output) Size() (height, width uint) {
	if !o.tty {
		return 0, 0
	}
	w, h, err := term.GetSize(o.fd)
	if err != nil {
		return 0, 0
	}
	return uint(h), uint(w)
}

// Columns is the width of the terminal, zero when there is none.
func (o *Output) Columns() int {
	_, w := o.Size()
	if o.tty && w == 0 {
		return 80
	}
	return int(w)
}

// SetRaw switches off what the terminal does to output (Windows only has an effect of its own).
func (o *Output) SetRaw() error {
	if !o.tty || o.state != nil || os.Getenv("NORAW") != "" {
		return nil
	}
	st, err := rawOutput(o.fd)
	if err == nil {
		o.state = st
	}
	return err
}

// Restore undoes SetRaw.
func (o *Output) Restore() {
	if o.state != nil {
		_ = term.Restore(o.fd, o.state)
		o.state = nil
	}
}
