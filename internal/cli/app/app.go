package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/config"
)

// App is one run of the program.
type App struct {
	Name string // what the program is called: gantry, or docker behind a link of that name
	In   *Input
	Out  *Output
	Err  io.Writer
	Env  func(string) string

	Globals Globals
	Home    config.Home
	Root    *Command // the whole tree, for help and completion

	client *api.Client
}

// Globals are the flags in front of the command.
type Globals struct {
	Context, LogLevel                     string
	Debug, TLS, TLSVerify                 bool
	TLSVerifySet, Version                 bool
	TLSCACert, TLSCert, TLSKey            string
	Hosts                                 []string
	originalCA, originalCert, originalKey string
}

// New makes the frame for a program name and the process's own streams.
func New(name string) *App {
	a := &App{Name: name, In: NewInput(os.Stdin), Out: NewOutput(os.Stdout), Err: os.Stderr, Env: os.Getenv}
	a.Home.Warn = func(err error) { fmt.Fprintln(a.Err, "WARNING: Error", err) }
	return a
}

// IsDocker says whether we are to behave under docker's name.
func (a *App) IsDocker() bool { return a.Name == "docker" }

// GlobalFlags registers the flags in front of the command.
func (a *App) GlobalFlags(f *pflag.FlagSet) {
	g := &a.Globals
	dir := config.Dir()
	certs := a.Env("DOCKER_CERT_PATH")
	if certs == "" {
		certs = dir
	}
	f.StringVar(&a.Home.Dir, "config", dir, "Directory with the client's configuration")
	f.StringVarP(&g.Context, "context", "c", "", `Context to use for the connection (goes before DOCKER_HOST and the one set with "`+a.Name+` context use")`)
	f.BoolVarP(&g.Debug, "debug", "D", a.Env("DEBUG") != "", "Turn debug output on")
	f.VarP(&hostList{&g.Hosts}, "host", "H", "Address of the engine to connect to")
	f.StringVarP(&g.LogLevel, "log-level", "l", "info", `How much to log ("debug", "info", "warn", "error", "fatal")`)
	f.BoolVar(&g.TLS, "tls", a.Env("DOCKER_TLS") != "", "Use TLS; implied by --tlsverify")
	f.StringVar(&g.TLSCACert, "tlscacert", filepath.Join(certs, "ca.pem"), "Trust only certificates signed by this authority")
	f.StringVar(&g.TLSCert, "tlscert", filepath.Join(certs, "cert.pem"), "File with the client's certificate")
	f.StringVar(&g.TLSKey, "tlskey", filepath.Join(certs, "key.pem"), "File with the client's key")
	f.BoolVar(&g.TLSVerify, "tlsverify", a.Env("DOCKER_TLS_VERIFY") != "", "Use TLS and verify the engine's certificate")
	f.BoolVarP(&g.Version, "version", "v", false, "Print the version and quit")
}

type hostList struct{ list *[]string }

func (h *hostList) Set(v string) error { *h.list = append(*h.list, v); return nil }
func (h *hostList) Type() string       { return "string" }
func (h *hostList) String() string     { return "" }

// Settle is called when the global flags are parsed.
func (a *App) Settle(f *pflag.FlagSet) error {
	g := &a.Globals
	if f.Changed("config") {
		if err := os.Setenv("DOCKER_CONFIG", a.Home.Dir); err != nil { // plugins and credential helpers look there too
			return err
		}
	}
	g.TLSVerifySet = f.Changed("tlsverify")
	if a.Env("DOCKER_CERT_PATH") == "" && f.Changed("config") {
		for name, p := range map[string]*string{"tlscacert": &g.TLSCACert, "tlscert": &g.TLSCert, "tlskey": &g.TLSKey} {
			if !f.Changed(name) {
				*p = filepath.Join(a.Home.Dir, filepath.Base(*p))
			}
		}
	}
	for name, p := range map[string]*string{"tlscacert": &g.originalCA, "tlscert": &g.originalCert, "tlskey": &g.originalKey} {
		if f.Changed(name) {
			*p = f.Lookup(name).Value.String()
		}
	}
	switch strings.ToLower(g.LogLevel) {
	case "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace":
	default:
		return fmt.Errorf("Unable to parse logging level: %s", g.LogLevel) // docker's text
	}
	if len(g.Hosts) > 0 && g.Context != "" {
		return errors.New("conflicting options: cannot specify both --host and --context")
	}
	return nil
}
