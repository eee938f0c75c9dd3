// Package config reads and writes the client's directory, ~/.docker: config.json, which is shared with
// docker's own command line, so that what this program does not know in it is kept as it is.
package config

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FileName is the configuration file in the client's directory.
const FileName = "config.json"

// Proxy is the proxy setting for containers of one engine, or of all ("default").
type Proxy struct {
	HTTPProxy  string `json:"httpProxy,omitempty"`
	HTTPSProxy string `json:"httpsProxy,omitempty"`
	NoProxy    string `json:"noProxy,omitempty"`
	FTPProxy   string `json:"ftpProxy,omitempty"`
	AllProxy   string `json:"allProxy,omitempty"`
}

// Auth is a stored credential: either Auth (base64 of user:password) or a token.
type Auth struct {
	Auth          string `json:"auth,omitempty"`
	Email         string `json:"email,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// File is config.json as far as this program reads it.
type File struct {
	Auths             map[string]Auth              `json:"auths"`
	HTTPHeaders       map[string]string            `json:"HttpHeaders"`
	PsFormat          string                       `json:"psFormat"`
	ImagesFormat      string                       `json:"imagesFormat"`
	NetworksFormat    string                       `json:"networksFormat"`
	VolumesFormat     string                       `json:"volumesFormat"`
	StatsFormat       string                       `json:"statsFormat"`
	DetachKeys        string                       `json:"detachKeys"`
	CredentialsStore  string                       `json:"credsStore"`
	CredentialHelpers map[string]string            `json:"credHelpers"`
	PruneFilters      []string                     `json:"pruneFilters"`
	Proxies           map[string]Proxy             `json:"proxies"`
	CurrentContext    string                       `json:"currentContext"`
	CLIPluginsDirs    []string                     `json:"cliPluginsExtraDirs"`
	Plugins           map[string]map[string]string `json:"plugins"`
	Aliases           map[string]string            `json:"aliases"`

	path string
	raw  map[string]json.RawMessage
}

// Dir is the client's directory: DOCKER_CONFIG, else ~/.docker.
func Dir() string {
	if d := os.Getenv("DOCKER_CONFIG"); d != "" {
		return d
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, ".docker")
}

// Load reads config.json below dir. A missing file is an empty configuration; a broken
// one is an empty configuration with an error, for a warning.
func Load(dir string) (*File, error) {
	f := &File{path: filepath.Join(dir, FileName), raw: map[string]json.RawMessage{}}
	b, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("loading config file: %s: %w", f.path, err)
	}
	if err := json.Unmarshal(b, f); err != nil {
		return &File{path: f.path, raw: map[string]json.RawMessage{}}, fmt.Errorf("parsing config file (%s): %w", f.path, err)
	}
	if err := json.Unmarshal(b, &f.raw); err != nil || f.raw == nil {
		f.raw = map[string]json.RawMessage{}
	}
	return f, nil
}

// Path is where the configuration was read from.
func (f *File) Path() string { return f.path }

// Set changes one top-level field and writes the file, all else unchanged. A nil value removes the field.
func (f *File) Set(field string, value any) error {
	if value == nil {
		delete(f.raw, field)
	} else {
		b, err := json.Marshal(value)
		if err != nil {
			return err
		}
		f.raw[field] = b
	}
	out, err := json.MarshalIndent(f.raw, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(f.path, out)
}

// writeFile replaces a file by rename; a symbolic link stays and its target is replaced.
func writeFile(path string, data []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Credential is the user and password, or token, stored in the file for a registry.
func (a Auth) Credential() (user, password string, err error) {
	if a.Auth == "" {
		return "", "", nil
	}
	b, err := base64.StdEncoding.DecodeString(a.Auth)
	if err != nil {
		return "", "", fmt.Errorf("stored credential is not base64: %w", err)
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok || user == "" {
		return "", "", errors.New("invalid auth configuration file")
	}
	return user, strings.Trim(password, "\x00"), nil
}

// ProxyEnv is the proxy environment of containers on an engine, both spellings, with what the user set
// kept. A value of nil in options means "take it from this process".
func (f *File) ProxyEnv(host string, options map[string]*string) map[string]*string {
	p, ok := f.Proxies[host]
	if !ok {
		p = f.Proxies["default"]
	}
	m := map[string]*string{}
	for k, v := range options {
		m[k] = v
	}
	for name, value := range map[string]string{"HTTP_PROXY": p.HTTPProxy, "HTTPS_PROXY": p.HTTPSProxy, "NO_PROXY": p.NoProxy, "FTP_PROXY": p.FTPProxy, "ALL_PROXY": p.AllProxy} {
		if value == "" {
			continue
		}
		for _, k := range []string{name, strings.ToLower(name)} {
			if _, set := m[k]; !set {
				m[k] = &value
			}
		}
	}
	return m
}
