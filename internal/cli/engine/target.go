package engine

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/gantry-engine/gantry/internal/cli/config"
)

// Target is an engine's address with the certificates for it.
type Target struct {
	Context string
	Host    string
	SkipTLS bool // do not verify the engine's certificate
	TLS     *tls.Config
}

// CurrentContext is the name of the context in use, by docker's order: --context, --host (default), the HOST
// variables (default), DOCKER_CONTEXT, config.json.
func (e *Engine) CurrentContext() string {
	switch {
	case e.flags.context != "":
		return e.flags.context
	case len(e.flags.hosts) > 0, e.envHost() != "":
		return config.DefaultContext
	case e.env("DOCKER_CONTEXT") != "":
		return e.env("DOCKER_CONTEXT")
	case e.home.Config().CurrentContext != "":
		return e.home.Config().CurrentContext
	}
	return config.DefaultContext
}

func (e *Engine) envHost() string {
	if h := e.env("GANTRY_HOST"); h != "" && e.program != "docker" {
		return h
	}
	return e.env("DOCKER_HOST")
}

// Target resolves which engine to talk to.
func (e *Engine) Target() (Target, error) {
	if name := e.CurrentContext(); name != config.DefaultContext {
		return e.contextTarget(name)
	}
	return e.DefaultTarget()
}

// DefaultTarget is the engine of the default context, the one made of flags and environment alone.
func (e *Engine) DefaultTarget() (Target, error) {
	t := Target{Context: config.DefaultContext}
	switch len(e.flags.hosts) {
	case 0:
		t.Host = e.envHost()
	case 1:
		t.Host = e.flags.hosts[0]
	default:
		return t, errors.New("Specify only one -H") // docker's text
	}
	g := e.flags
	host, err := e.ParseHost(t.Host, g.tls || g.tlsVerify)
	if err != nil {
		return t, err
	}
	t.Host = host
	if g.tls || g.tlsVerify || g.tlsVerifySet {
		t.SkipTLS = !g.tlsVerify
		if t.TLS, err = g.tlsConfig(); err != nil {
			return t, err
		}
	}
	return t, nil
}

func (e *Engine) contextTarget(name string) (Target, error) {
	t := Target{Context: name}
	c, err := e.home.Contexts().Get(name)
	if err != nil {
		return t, err
	}
	ep, ok := c.Endpoints["docker"]
	if !ok {
		return t, fmt.Errorf("context %q has no docker endpoint", name)
	}
	if t.Host, err = e.ParseHost(ep.Host, false); err != nil {
		return t, err
	}
	t.SkipTLS = ep.SkipTLSVerify
	files, err := e.home.Contexts().TLS(name)
	if err != nil {
		return t, err
	}
	if len(files) > 0 || ep.SkipTLSVerify {
		t.TLS, err = tlsFrom(files["ca.pem"], files["cert.pem"], files["key.pem"], ep.SkipTLSVerify)
	}
	return t, err
}
