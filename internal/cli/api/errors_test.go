package api

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// Which address, what is wrong, and what would help; under docker's name docker's words alone.
func TestConnErrorSaysWhatHelps(t *testing.T) {
	for _, c := range []struct {
		host string
		err  error
		want []string
	}{
		{"unix:///run/gantry.sock", fs.ErrNotExist, []string{"Cannot connect to the Gantry daemon at unix:///run/gantry.sock. Is the gantry daemon running?", "does not exist", "systemctl start gantry"}},
		{"unix:///run/gantry.sock", syscall.ECONNREFUSED, []string{"Is the gantry daemon running?", "nobody listens on it"}},
		{"unix:///run/gantry.sock", syscall.EACCES, []string{"permission denied while trying to connect to the Gantry daemon socket at unix:///run/gantry.sock", "member of the socket's group"}},
		{"unix:///run/gantry.sock", io.ErrUnexpectedEOF, []string{"Is the gantry daemon running?", "closed before an answer came"}},
		{"npipe:////./pipe/docker_engine", fs.ErrNotExist, []string{"at npipe:////./pipe/docker_engine. Is the gantry daemon running?", "The pipe does not exist"}},
		{"npipe:////./pipe/docker_engine", fs.ErrPermission, []string{"permission denied", "elevated privileges"}},
		{"tcp://host:2375", syscall.ECONNREFUSED, []string{"Cannot connect to the Gantry daemon at tcp://host:2375", "Nobody listens at that address"}},
		{"tcp://me:secret@host:2375", errors.New("no route"), []string{"error during connect: tcp://me:xxxxx@host:2375: no route"}},
		{"unix:///x", errors.New("odd"), []string{"Cannot connect to the Gantry daemon at unix:///x: odd"}},
	} {
		text := (&ConnError{Host: c.host, Program: "gantry", Err: c.err}).Error()
		for _, w := range c.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s, %v: %q is not in %q", c.host, c.err, w, text)
			}
		}
		if strings.Contains(c.host, "npipe") && strings.Contains(text, "systemctl") {
			t.Errorf("%s: %q is no help on Windows", c.host, text)
		}
		if text := (&ConnError{Host: c.host, Program: "docker", Err: c.err}).Error(); strings.Contains(strings.ToLower(text), "gantry") && !strings.Contains(c.host, "gantry") || strings.Contains(text, "\n") {
			t.Errorf("under docker's name: %q", text)
		}
	}
}
