package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// DefaultContext is the name of the context made of flags and environment.
const DefaultContext = "default"

// Endpoint is where a context's engine listens.
type Endpoint struct {
	Host          string `json:"Host,omitempty"`
	SkipTLSVerify bool   `json:"SkipTLSVerify"`
}

// Context is one stored context: a name, free metadata and endpoints ("docker").
type Context struct {
	Name      string
	Metadata  map[string]any
	Endpoints map[string]Endpoint
}

// Description is the context's free text.
func (c Context) Description() string {
	s, _ := c.Metadata["Description"].(string)
	return s
}

// Contexts is the store below contexts/ of the client's directory, in the layout docker uses:
// meta/<sha256 of the name>/meta.json and tls/<sha256>/<endpoint>/{ca,cert,key}.pem.
type Contexts struct{ dir string }

func key(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// MetaDir is where a context's metadata lives.
func (s Contexts) MetaDir(name string) string { return filepath.Join(s.dir, "meta", key(name)) }

// TLSDir is where a context's certificates live.
func (s Contexts) TLSDir(name string) string { return filepath.Join(s.dir, "tls", key(name)) }

// Get reads one context.
func (s Contexts) Get(name string) (Context, error) {
	b, err := os.ReadFile(filepath.Join(s.MetaDir(name), "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Context{}, fmt.Errorf("context %q: context not found: open %s: no such file or directory", name, filepath.Join(s.MetaDir(name), "meta.json"))
	}
	if err != nil {
		return Context{}, err
	}
	var c Context
	if err := json.Unmarshal(b, &c); err != nil {
		return Context{}, fmt.Errorf("context %q: parsing %s: %w", name, filepath.Join(s.MetaDir(name), "meta.json"), err)
	}
	return c, nil
}

// Has says whether the store has a context.
func (s Contexts) Has(name string) bool {
	_, err := os.Stat(filepath.Join(s.MetaDir(name), "meta.json"))
	return err == nil
}

// List reads all contexts, sorted by name.
func (s Contexts) List() ([]Context, error) {
	dirs, err := os.ReadDir(filepath.Join(s.dir, "meta"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Context
	for _, d := range dirs {
		b, err := os.ReadFile(filepath.Join(s.dir, "meta", d.Name(), "meta.json"))
		if err != nil {
			continue
		}
		var c Context
		if err := json.Unmarshal(b, &c); err != nil {
			return nil, fmt.Errorf("parsing %s: %w", filepath.Join(s.dir, "meta", d.Name(), "meta.json"), err)
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Context) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Put writes a context's metadata.
func (s Contexts) Put(c Context) error {
	if c.Metadata == nil {
		c.Metadata = map[string]any{}
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.MetaDir(c.Name), 0o755); err != nil {
		return err
	}
	return writeFile(filepath.Join(s.MetaDir(c.Name), "meta.json"), b)
}

// PutTLS replaces the certificates of a context's docker endpoint; none removes them.
func (s Contexts) PutTLS(name string, files map[string][]byte) error {
	if err := os.RemoveAll(s.TLSDir(name)); err != nil {
		return err
	}
	dir := filepath.Join(s.TLSDir(name), "docker")
	for file, data := range files {
		if file != filepath.Base(file) {
			return fmt.Errorf("%q is no plain file name", file)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// TLS reads the certificates of a context's docker endpoint.
func (s Contexts) TLS(name string) (map[string][]byte, error) {
	files := map[string][]byte{}
	dir := filepath.Join(s.TLSDir(name), "docker")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Remove deletes a context.
func (s Contexts) Remove(name string) error {
	return errors.Join(os.RemoveAll(s.MetaDir(name)), os.RemoveAll(s.TLSDir(name)))
}

// ValidContextName refuses names that docker would refuse.
func ValidContextName(name string) error {
	if name == "" {
		return errors.New("context name cannot be empty")
	}
	if name == DefaultContext {
		return errors.New(`"default" is a reserved context name`)
	}
	if !regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$`).MatchString(name) {
		return fmt.Errorf("context name %q is invalid, names are validated against regexp %q", name, "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$")
	}
	return nil
}
