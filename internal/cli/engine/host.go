package engine

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
)

// The sockets tried when nothing names an engine.
const (
	gantrySocket = "/run/gantry.sock"
	dockerSocket = "/var/run/docker.sock"
)

// defaultHost is where the engine is looked for when nothing names one: at our own socket, else docker's; under
// docker's name the other way round.
func (e *Engine) defaultHost() string {
	if runtime.GOOS == "windows" {
		return "npipe:////./pipe/docker_engine"
	}
	first, second := gantrySocket, dockerSocket
	if e.program == "docker" {
		first, second = second, first
	}
	if _, err := os.Stat(first); err != nil {
		if _, err := os.Stat(second); err == nil {
			return "unix://" + second
		}
	}
	return "unix://" + first
}

// ParseHost checks and completes an engine address as docker does: the default when empty, tcp without a scheme, port 2376 where
// TLS is asked for, else 2375.
func (e *Engine) ParseHost(h string, secure bool) (string, error) {
	h = strings.TrimSpace(h)
	if h == "" {
		if secure {
			return "tcp://localhost:2376", nil
		}
		return e.defaultHost(), nil
	}
	proto, addr, ok := strings.Cut(h, "://")
	if !ok {
		proto, addr = "tcp", h
	}
	switch proto {
	case "unix":
		if addr == "" {
			return e.defaultHost(), nil
		}
		if strings.Contains(addr, "://") {
			return "", fmt.Errorf("invalid proto, expected unix: %s", addr)
		}
	case "npipe", "fd", "ssh":
		if addr == "" && proto == "npipe" {
			return e.defaultHost(), nil
		}
	case "tcp", "http", "https":
		return parseTCP(h, addr, secure)
	default:
		return "", fmt.Errorf("invalid bind address format: %s", h)
	}
	return proto + "://" + addr, nil
}

func parseTCP(h, addr string, secure bool) (string, error) {
	port := "2375"
	if secure {
		port = "2376"
	}
	u, err := url.Parse("tcp://" + addr)
	if err != nil {
		return "", fmt.Errorf("invalid bind address format: %s", h)
	}
	if u.User != nil || u.RawQuery != "" {
		return "", fmt.Errorf("invalid bind address format: %s", h)
	}
	name, p := u.Hostname(), u.Port()
	if name == "" {
		name = "localhost"
	}
	if p == "" {
		p = port
	}
	return "tcp://" + net.JoinHostPort(name, p) + u.Path, nil
}
