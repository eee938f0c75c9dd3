package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// Error is an answer of the engine with a status of 400 or more.
type Error struct {
	Status  int
	Message string
}

func (e *Error) Error() string { return "Error response from daemon: " + e.Message }

// IsNotFound says whether the engine answered 404.
func IsNotFound(err error) bool { return hasStatus(err, http.StatusNotFound) }

// IsNotImplemented says whether the engine answered 501.
func IsNotImplemented(err error) bool { return hasStatus(err, http.StatusNotImplemented) }

// IsConflict says whether the engine answered 409.
func IsConflict(err error) bool { return hasStatus(err, http.StatusConflict) }

func hasStatus(err error, status int) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == status
}

// errorBodyLimit bounds what is read of an error's body.
const errorBodyLimit = 1 << 20

func readError(req Request, r *Response) error {
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, errorBodyLimit))
	if err != nil {
		return err
	}
	e := &Error{Status: r.Status}
	var msg struct {
		Message string `json:"message"`
	}
	text := strings.TrimSpace(string(b))
	switch {
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") && json.Unmarshal(b, &msg) == nil:
		e.Message = strings.TrimSpace(msg.Message)
	default:
		e.Message = text
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("%d %s for API route %s, check whether the server supports it", r.Status, http.StatusText(r.Status), req.Path)
	}
	return e
}

// ConnError says that the engine could not be reached, and what would help.
type ConnError struct {
	Host    string
	Program string // docker or gantry: whose words to use
	Err     error
}

// Unwrap gives the cause.
func (e *ConnError) Unwrap() error { return e.Err }

func (e *ConnError) Error() string {
	name, daemon := "Gantry", "gantry"
	if e.Program == "docker" {
		name, daemon = "Docker", "docker"
	}
	local := strings.HasPrefix(e.Host, "unix://") || strings.HasPrefix(e.Host, "npipe://")
	switch {
	case errors.Is(e.Err, fs.ErrPermission):
		text := fmt.Sprintf("permission denied while trying to connect to the %s daemon socket at %s: %v", name, e.Host, e.Err)
		switch {
		case e.Program == "docker":
		case e.pipe():
			text += "\nThe engine is there, but this user may not use its pipe: run the command with elevated privileges, or become a member of the pipe's group."
		default:
			text += "\nThe engine is there, but this user may not use its socket: become a member of the socket's group (docker or gantry), or use sudo."
		}
		return text
	case errors.Is(e.Err, fs.ErrNotExist), errors.Is(e.Err, syscall.ECONNREFUSED), errors.Is(e.Err, io.EOF), errors.Is(e.Err, io.ErrUnexpectedEOF):
		text := fmt.Sprintf("Cannot connect to the %s daemon at %s. Is the %s daemon running?", name, e.Host, daemon)
		if e.Program != "docker" {
			text += e.hint(local)
		}
		return text
	case local:
		return fmt.Sprintf("Cannot connect to the %s daemon at %s: %v", name, e.Host, e.Err)
	}
	host := e.Host
	if u, err := url.Parse(host); err == nil {
		host = u.Redacted()
	}
	return fmt.Sprintf("error during connect: %s: %v", host, e.Err)
}

func (e *ConnError) pipe() bool { return strings.HasPrefix(e.Host, "npipe://") }

func (e *ConnError) hint(local bool) string {
	switch {
	case errors.Is(e.Err, fs.ErrNotExist) && e.pipe():
		return "\nThe pipe does not exist. Start the engine, or name another with --host or GANTRY_HOST (tcp://, ssh://)."
	case errors.Is(e.Err, fs.ErrNotExist):
		return "\nThe socket does not exist. Start the engine with 'systemctl start gantry' or 'gantryd', or name another with --host or GANTRY_HOST."
	case errors.Is(e.Err, syscall.ECONNREFUSED) && local:
		return "\nThe socket is there, but nobody listens on it. Start the engine with 'systemctl start gantry' or 'gantryd'."
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return "\nNobody listens at that address. Check --host, GANTRY_HOST and DOCKER_HOST, and the context in use ('gantry context ls')."
	}
	return "\nThe connection was closed before an answer came."
}
