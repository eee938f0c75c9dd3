package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// engine is one of those that are compared.
type engine struct {
	name    string // gantry, docker, podman, or the folder of another build of Gantry: its column
	version string
	dir     string     // everything of it
	daemon  func() int // its process ID; nil for an engine without one
	bridge  string     // of its default network
	socket  string
	http    *http.Client
	api     api
	// command makes a command of the engine's own command line.
	command func(args ...string) *exec.Cmd
	// pids are its processes, without those of containers.
	pids func() []int
	// stop and start end and start the daemon; nil for an engine without one.
	stop, start func() error
	destroy     func() error
}

// fresh starts an engine with empty roots (a daemon with further flags), and loads the image.
func (b *bench) fresh(name string, args ...string) (e *engine, err error) {
	switch {
	case name == "gantry", name == "docker":
		e, err = b.daemon(name, b.bin, args...)
	case name == "podman":
		e, err = b.podman()
	case isBuild(name):
		e, err = b.daemon(name, name, args...)
	default:
		return nil, fmt.Errorf("it is none of gantry, docker, podman, or a folder with another build of Gantry (with a slash in it)")
	}
	if err != nil {
		return nil, err
	}
	if out, err := e.command("load", "-q", "-i", b.image).CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("loading the image: %w\n%s", err, out), e.destroy())
	}
	return e, nil
}

// isBuild tells whether a peer is another build of Gantry: for before and after.
func isBuild(name string) bool { return strings.Contains(name, "/") }

// repeats is how many of n repetitions an engine does: those that take ten times as long do a share of them.
func (e *engine) repeats(n, share, least int) int {
	if e.name == "gantry" || isBuild(e.name) {
		return n
	}
	return max(least, n/share)
}

// daemon is a gantryd out of the folder bin, or Debian's dockerd, with further flags.
func (b *bench) daemon(name, bin string, args ...string) (*engine, error) {
	k, err := testkit.New(testkit.Options{Docker: name == "docker", OwnNamespaces: true, Args: args}, func() string { return bin })
	if err != nil {
		return nil, err
	}
	program := "docker"
	if name != "docker" {
		program = filepath.Join(bin, "gantry")
	}
	e := &engine{name: name, dir: k.Dir, socket: k.Socket, daemon: k.PID, bridge: k.Bridge, http: k.HTTP(), start: k.Run, stop: k.Stop}
	e.api = api{e.http, b.ctx}
	e.command = func(args ...string) *exec.Cmd { return clientCommand(program, k.Socket, args...) }
	e.pids = func() (ids []int) {
		for pid := range k.Processes() {
			ids = append(ids, pid)
		}
		return ids
	}
	e.destroy = func() error {
		e.http.CloseIdleConnections()
		return errors.Join(k.Destroy(), os.RemoveAll(k.Dir))
	}
	if err := k.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, k.LogTail(3000)), e.destroy())
	}
	var v struct{ Version string }
	if err := e.api.call("GET", "/version", nil, &v); err != nil {
		return nil, errors.Join(err, e.destroy())
	}
	e.version, _, _ = strings.Cut(v.Version, "+")
	return e, nil
}

// clientCommand is a Docker client, ours or the official one, for an engine's socket.
func clientCommand(program, socket string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket)
	return cmd
}

// must runs a command of the engine's command line and gives its output.
func (e *engine) must(args ...string) (string, error) {
	out, err := e.command(args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", e.name, args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
