package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/config"
	"github.com/gantry-engine/gantry/internal/version"
)

// The sockets tried when nothing names an engine.
const (
	gantrySocket = "/run/gantry.sock"
	dockerSocket = "/var/run/docker.sock"
)

// defaultHost is where the engine is looked for when nothing names one: at our own socket, else docker's; under
// docker's name the other way round.
func (a *App) defaultHost() string {
	if runtime.GOOS == "windows" {
		return "npipe:////./pipe/docker_engine"
	}
	first, second := gantrySocket, dockerSocket
	if a.IsDocker() {
		first, second = second, first
	}
	if _, err := os.Stat(first); err != nil {
		if _, err := os.Stat(second); err == nil {
			return "unix://" + second
		}
	}
	return "unix://" + first
}

// Target is an engine's address with the certificates for it.
type Target struct {
	Context string
	Host    string
	SkipTLS bool // do not verify the engine's certificate
	TLS     *tls.Config
}

// CurrentContext is the name of the context in use, by docker's order: --context, --host (default), the HOST
// variables (default), DOCKER_CONTEXT, config.json.
func (a *App) CurrentContext() string {
	switch {
	case a.Globals.Context != "":
		return a.Globals.Context
	case len(a.Globals.Hosts) > 0, a.envHost() != "":
		return config.DefaultContext
	case a.Env("DOCKER_CONTEXT") != "":
		return a.Env("DOCKER_CONTEXT")
	case a.Home.Config().CurrentContext != "":
		return a.Home.Config().CurrentContext
	}
	return config.DefaultContext
}

func (a *App) envHost() string {
	if h := a.Env("GANTRY_HOST"); h != "" && !a.IsDocker() {
		return h
	}
	return a.Env("DOCKER_HOST")
}

// Target resolves which engine to talk to.
func (a *App) Target() (Target, error) {
	name := a.CurrentContext()
	if name != config.DefaultContext {
		return a.contextTarget(name)
	}
	t := Target{Context: name}
	switch len(a.Globals.Hosts) {
	case 0:
		t.Host = a.envHost()
	case 1:
		t.Host = a.Globals.Hosts[0]
	default:
		return t, errors.New("Specify only one -H") // docker's text
	}
	g := a.Globals
	host, err := a.parseHost(t.Host, g.TLS || g.TLSVerify)
	if err != nil {
		return t, err
	}
	t.Host = host
	if g.TLS || g.TLSVerify || g.TLSVerifySet {
		t.SkipTLS = !g.TLSVerify
		if t.TLS, err = g.tlsConfig(); err != nil {
			return t, err
		}
	}
	return t, nil
}

func (a *App) contextTarget(name string) (Target, error) {
	t := Target{Context: name}
	c, err := a.Home.Contexts().Get(name)
	if err != nil {
		return t, err
	}
	ep, ok := c.Endpoints["docker"]
	if !ok {
		return t, fmt.Errorf("context %q has no docker endpoint", name)
	}
	if t.Host, err = a.parseHost(ep.Host, false); err != nil {
		return t, err
	}
	t.SkipTLS = ep.SkipTLSVerify
	files, err := a.Home.Contexts().TLS(name)
	if err != nil {
		return t, err
	}
	if len(files) > 0 || ep.SkipTLSVerify {
		t.TLS, err = tlsFrom(files["ca.pem"], files["cert.pem"], files["key.pem"], ep.SkipTLSVerify)
	}
	return t, err
}

func (g Globals) tlsConfig() (*tls.Config, error) {
	read := func(path, given string) ([]byte, error) {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && given == "" {
			return nil, nil
		}
		return b, err
	}
	ca, err := read(g.TLSCACert, g.originalCA)
	if err != nil {
		return nil, fmt.Errorf("could not read CA certificate %q: %w", g.TLSCACert, err)
	}
	cert, err := read(g.TLSCert, g.originalCert)
	if err != nil {
		return nil, fmt.Errorf("could not read certificate %q: %w", g.TLSCert, err)
	}
	key, err := read(g.TLSKey, g.originalKey)
	if err != nil {
		return nil, fmt.Errorf("could not read key %q: %w", g.TLSKey, err)
	}
	return tlsFrom(ca, cert, key, !g.TLSVerify)
}

func tlsFrom(ca, cert, key []byte, skip bool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skip}
	if len(ca) > 0 && !skip {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(ca) {
			return nil, errors.New("the certificate authority's file holds no certificate in PEM form")
		}
		c.RootCAs = pool
	}
	if len(cert) > 0 || len(key) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("could not load X509 key pair: %w. Make sure the key is not encrypted", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// CheckTLS says what is wrong with the certificates of a context: files by name, ca.pem, cert.pem, key.pem.
func CheckTLS(files map[string][]byte, skip bool) error {
	if ca := files["ca.pem"]; len(ca) > 0 && !x509.NewCertPool().AppendCertsFromPEM(ca) {
		return errors.New("ca.pem seems invalid")
	}
	_, err := tlsFrom(nil, files["cert.pem"], files["key.pem"], skip)
	return err
}

// ParseHost checks and completes an engine address as docker does.
func (a *App) ParseHost(h string) (string, error) { return a.parseHost(h, false) }

// parseHost completes an address: the default when empty, tcp without a scheme, ports 2375 and 2376.
func (a *App) parseHost(h string, secure bool) (string, error) {
	h = strings.TrimSpace(h)
	if h == "" {
		if secure {
			return "tcp://localhost:2376", nil
		}
		return a.defaultHost(), nil
	}
	proto, addr, ok := strings.Cut(h, "://")
	if !ok {
		proto, addr = "tcp", h
	}
	switch proto {
	case "unix":
		if addr == "" {
			return a.defaultHost(), nil
		}
		if strings.Contains(addr, "://") {
			return "", fmt.Errorf("invalid proto, expected unix: %s", addr)
		}
	case "npipe", "fd", "ssh":
		if addr == "" && proto == "npipe" {
			return a.defaultHost(), nil
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

// Client is the connection to the engine; nothing is sent before its first request.
func (a *App) Client() (*api.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	t, err := a.Target()
	if err != nil {
		return nil, fmt.Errorf("Failed to initialize: unable to resolve docker endpoint: %w", err) // docker's text
	}
	if a.client, err = a.ClientFor(t); err != nil {
		return nil, err
	}
	return a.client, nil
}

// ClientFor makes a client for a resolved engine.
func (a *App) ClientFor(t Target) (*api.Client, error) {
	proto, addr, _ := strings.Cut(t.Host, "://")
	cfg := api.Config{Host: t.Host, Version: a.Env("DOCKER_API_VERSION"), Headers: a.headers(), Program: a.Name,
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

func (a *App) headers() map[string]string {
	m := map[string]string{}
	for k, v := range a.Home.Config().HTTPHeaders {
		if !strings.EqualFold(k, "user-agent") {
			m[k] = v
		}
	}
	for _, kv := range strings.Split(a.Env("DOCKER_CUSTOM_HEADERS"), ",") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			m[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return m
}
