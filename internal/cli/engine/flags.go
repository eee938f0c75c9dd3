package engine

import (
	"errors"
	"path/filepath"

	"github.com/spf13/pflag"
)

// flags are those in front of the command that say where the engine is.
type flags struct {
	context                               string
	hosts                                 []string
	tls, tlsVerify, tlsVerifySet          bool
	tlsCACert, tlsCert, tlsKey            string
	originalCA, originalCert, originalKey string // as given; empty: the file need not be there
}

// GlobalFlags registers the flags in front of the command that say where the engine is.
func (e *Engine) GlobalFlags(f *pflag.FlagSet) {
	g := &e.flags
	certs := e.env("DOCKER_CERT_PATH")
	if certs == "" {
		certs = e.home.Dir
	}
	f.StringVarP(&g.context, "context", "c", "", `Context to use for the connection (goes before DOCKER_HOST and the one set with "`+e.program+` context use")`)
	f.VarP(&hostList{&g.hosts}, "host", "H", "Address of the engine to connect to")
	f.BoolVar(&g.tls, "tls", e.env("DOCKER_TLS") != "", "Use TLS; implied by --tlsverify")
	f.StringVar(&g.tlsCACert, "tlscacert", filepath.Join(certs, "ca.pem"), "Trust only certificates signed by this authority")
	f.StringVar(&g.tlsCert, "tlscert", filepath.Join(certs, "cert.pem"), "File with the client's certificate")
	f.StringVar(&g.tlsKey, "tlskey", filepath.Join(certs, "key.pem"), "File with the client's key")
	f.BoolVar(&g.tlsVerify, "tlsverify", e.env("DOCKER_TLS_VERIFY") != "", "Use TLS and verify the engine's certificate")
}

type hostList struct{ list *[]string }

func (h *hostList) Set(v string) error { *h.list = append(*h.list, v); return nil }
func (h *hostList) Type() string       { return "string" }
func (h *hostList) String() string     { return "" }

// Settle is called when the global flags are parsed and the client's directory is known.
func (e *Engine) Settle(f *pflag.FlagSet) error {
	g := &e.flags
	g.tlsVerifySet = f.Changed("tlsverify")
	if e.env("DOCKER_CERT_PATH") == "" && f.Changed("config") {
		for name, p := range map[string]*string{"tlscacert": &g.tlsCACert, "tlscert": &g.tlsCert, "tlskey": &g.tlsKey} {
			if !f.Changed(name) {
				*p = filepath.Join(e.home.Dir, filepath.Base(*p))
			}
		}
	}
	for name, p := range map[string]*string{"tlscacert": &g.originalCA, "tlscert": &g.originalCert, "tlskey": &g.originalKey} {
		if f.Changed(name) {
			*p = f.Lookup(name).Value.String()
		}
	}
	if len(g.hosts) > 0 && g.context != "" {
		return errors.New("conflicting options: cannot specify both --host and --context")
	}
	return nil
}

// Named says whether the command line itself names the engine, by --host or --context.
func (e *Engine) Named() bool { return e.flags.context != "" || len(e.flags.hosts) > 0 }
