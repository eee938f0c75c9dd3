package engine

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/version"
)

// Client is the connection to the engine; nothing is sent before its first request.
func (e *Engine) Client() (*api.Client, error) {
	if e.client != nil {
		return e.client, nil
	}
	t, err := e.Target()
	if err != nil {
		return nil, fmt.Errorf("Failed to initialize: unable to resolve docker endpoint: %w", err) // docker's text
	}
	if e.client, err = e.clientFor(t); err != nil {
		return nil, err
	}
	return e.client, nil
}

// clientFor makes a client for a resolved engine.
func (e *Engine) clientFor(t Target) (*api.Client, error) {
	proto, addr, _ := strings.Cut(t.Host, "://")
	cfg := api.Config{Host: t.Host, Version: e.env("DOCKER_API_VERSION"), Headers: e.headers(), Program: e.program,
		UserAgent: "Gantry-Client/" + version.Version + " (" + runtime.GOOS + ")"}
	switch proto {
	case "unix", "npipe":
		cfg.Dial = func(ctx context.Context) (net.Conn, error) { return dialLocal(ctx, proto, addr) }
	case "ssh":
		if _, err := sshArgs(t.Host); err != nil {
			return nil, fmt.Errorf("Failed to initialize: ssh host connection is not valid: %w", err) // docker's text
		}
		cfg.Dial = func(ctx context.Context) (net.Conn, error) { return dialSSH(t.Host) }
	case "tcp":
		host, path, _ := strings.Cut(addr, "/")
		if path != "" {
			cfg.BasePath = "/" + strings.TrimRight(path, "/")
		}
		cfg.HostHeader = host
		cfg.Dial = func(ctx context.Context) (net.Conn, error) {
			d := &net.Dialer{}
			if t.TLS == nil {
				return d.DialContext(ctx, "tcp", host)
			}
			return (&tls.Dialer{NetDialer: d, Config: t.TLS}).DialContext(ctx, "tcp", host)
		}
	default:
		return nil, fmt.Errorf("cannot connect to %s: the protocol %s is not one of unix, npipe, tcp, ssh", t.Host, proto)
	}
	return api.New(cfg), nil
}

func (e *Engine) headers() map[string]string {
	m := map[string]string{}
	for k, v := range e.home.Config().HTTPHeaders {
		if !strings.EqualFold(k, "user-agent") {
			m[k] = v
		}
	}
	for _, kv := range strings.Split(e.env("DOCKER_CUSTOM_HEADERS"), ",") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			m[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return m
}
