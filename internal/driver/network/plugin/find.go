// Package plugin talks to drivers that are other programs, by Docker's plugin protocol: finds them by name, asks them what
// they implement, and calls them over HTTP, with bounds on time and size.
package plugin

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
)

// Folders are where plugins are looked for.
type Folders struct {
	Sockets []string // NAME.sock or NAME/NAME.sock
	Specs   []string // NAME.spec, NAME.json, or the same in a folder NAME
}

// Default are Docker's folders.
var Default = Folders{Sockets: []string{"/run/docker/plugins"}, Specs: []string{"/etc/docker/plugins", "/usr/lib/docker/plugins"}}

// address is where a plugin answers.
type address struct {
	network, target string // as for net.Dial
	tls             *tls.Config
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// maxSpec is how large a plugin's description may be, in bytes.
const maxSpec = 64 << 10

// find looks for a plugin by its name: first among sockets, then among descriptions.
func (f Folders) find(name string) (address, error) {
	if !validName.MatchString(name) {
		return address{}, fmt.Errorf("plugin %q: a name of letters, digits, dots, dashes and underscores is needed: %w", name, errdefs.ErrInvalidArgument)
	}
	for _, dir := range f.Sockets {
		for _, path := range both(dir, name, ".sock") {
			if fi, err := os.Stat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
				return address{network: "unix", target: path}, nil
			}
		}
	}
	for _, dir := range f.Specs {
		for _, path := range both(dir, name, ".spec") {
			if text, err := read(path); err == nil {
				return parseAddress(path, strings.TrimSpace(string(text)))
			} else if !errors.Is(err, os.ErrNotExist) {
				return address{}, err
			}
		}
		for _, path := range both(dir, name, ".json") {
			if text, err := read(path); err == nil {
				return parseJSON(path, text)
			} else if !errors.Is(err, os.ErrNotExist) {
				return address{}, err
			}
		}
	}
	return address{}, fmt.Errorf("plugin %q not found: there is no driver of this name built in, no %s.sock in %s, and no %s.spec or %s.json in %s: %w",
		name, name, strings.Join(f.Sockets, ", "), name, name, strings.Join(f.Specs, ", "), errdefs.ErrNotFound)
}

func both(dir, name, ending string) []string {
	return []string{filepath.Join(dir, name+ending), filepath.Join(dir, name, name+ending)}
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err == nil && len(text) > maxSpec {
		err = fmt.Errorf("plugin description %s is larger than %d bytes: %w", path, maxSpec, errdefs.ErrInvalidArgument)
	}
	return text, err
}

// parseAddress reads where a plugin answers: unix:///path, tcp://host:port, http:// or https://.
func parseAddress(path, text string) (address, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" && u.Path == "" {
		return address{}, fmt.Errorf("plugin description %s: %q is no address, unix:///path or tcp://host:port is needed: %w", path, text, errdefs.ErrInvalidArgument)
	}
	switch u.Scheme {
	case "unix":
		return address{network: "unix", target: u.Host + u.Path}, nil
	case "tcp", "http":
		return address{network: "tcp", target: u.Host}, nil
	case "https":
		return address{network: "tcp", target: u.Host, tls: &tls.Config{MinVersion: tls.VersionTLS12}}, nil
	}
	return address{}, fmt.Errorf("plugin description %s: address %q: the scheme unix, tcp, http or https is needed: %w", path, text, errdefs.ErrInvalidArgument)
}

// parseJSON reads a description with certificates.
func parseJSON(path string, text []byte) (address, error) {
	var d struct {
		Name, Addr string
		TLSConfig  *struct {
			InsecureSkipVerify        bool
			CAFile, CertFile, KeyFile string
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return address{}, fmt.Errorf("plugin description %s: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	a, err := parseAddress(path, d.Addr)
	if err != nil || d.TLSConfig == nil {
		return a, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: d.TLSConfig.InsecureSkipVerify} //nolint:gosec // the administrator's choice
	if file := d.TLSConfig.CAFile; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return a, fmt.Errorf("plugin description %s: %w", path, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return a, fmt.Errorf("plugin description %s: %s has no certificate: %w", path, file, errdefs.ErrInvalidArgument)
		}
	}
	if d.TLSConfig.CertFile != "" || d.TLSConfig.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(d.TLSConfig.CertFile, d.TLSConfig.KeyFile)
		if err != nil {
			return a, fmt.Errorf("plugin description %s: %w", path, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	a.tls = c
	return a, nil
}
