// Package settings is the registry's configuration: a YAML file and flags in, one checked value out.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/go-units"
	"go.yaml.in/yaml/v3"

	"github.com/gantry-engine/gantry/internal/registryserver/access"
	"github.com/gantry-engine/gantry/internal/registryserver/flags"
	"github.com/gantry-engine/gantry/internal/registryserver/hooks"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// Config is the configuration.
type Config struct {
	Data     string        `yaml:"data"`
	Listen   string        `yaml:"listen"`
	Debug    string        `yaml:"debug-listen"`
	Shutdown time.Duration `yaml:"shutdown-timeout"`
	Idle     time.Duration `yaml:"idle-timeout"` // of an upload's connection
	Page     bool          `yaml:"page"`
	// FromEngine is the address of an engine whose images are served; empty for none.
	FromEngine string `yaml:"from-engine"`

	TLS    TLS                 `yaml:"tls"`
	Auth   Auth                `yaml:"auth"`
	Groups map[string][]string `yaml:"groups"`
	Rights []Right             `yaml:"rights"`
	Quotas Quotas              `yaml:"quotas"`
	GC     GC                  `yaml:"gc"`
	Cache  Cache               `yaml:"cache"`
	Hooks  []Hook              `yaml:"hooks"`
	Log    Log                 `yaml:"log"`
}

// TLS are files in PEM.
type TLS struct {
	Cert     string `yaml:"cert"`
	Key      string `yaml:"key"`
	ClientCA string `yaml:"client-ca"`
}

// Auth says how users are known.
type Auth struct {
	Realm         string `yaml:"realm"`
	Htpasswd      string `yaml:"htpasswd"`
	AnonymousPull bool   `yaml:"anonymous-pull"`
	Token         *Token `yaml:"token"`
}

// Token says whose tokens are taken: the registry's own where no issuer is named.
type Token struct {
	Realm   string `yaml:"realm"` // URL where clients get them
	Service string `yaml:"service"`
	Issuer  string `yaml:"issuer"`
	JWKS    string `yaml:"jwks"`  // file
	Certs   string `yaml:"certs"` // file with certificates or public keys
}

// Right is a rule of the rights.
type Right struct {
	Repositories []string `yaml:"repositories"`
	Users        []string `yaml:"users"`
	Groups       []string `yaml:"groups"`
	Allow        []string `yaml:"allow"`
}

// Size is a number of bytes, written as a number or as 10GB.
type Size int64

// UnmarshalYAML reads a size.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	v, err := units.FromHumanSize(n.Value)
	if err != nil || v < 0 {
		return fmt.Errorf("line %d: %q is no size: a number of bytes, or one with kB, MB, GB, TB, is needed", n.Line, n.Value)
	}
	*s = Size(v)
	return nil
}

// Quotas bound what is taken.
type Quotas struct {
	Total Size   `yaml:"total"`
	Rules []Rule `yaml:"rules"`
}

// Rule is a quota of some repositories.
type Rule struct {
	Repositories string `yaml:"repositories"`
	Each         Size   `yaml:"each"`
	Together     Size   `yaml:"together"`
}

// GC says when what is collected.
type GC struct {
	Interval time.Duration `yaml:"interval"`
	Grace    time.Duration `yaml:"grace"`
	Untagged bool          `yaml:"untagged"`
	Uploads  time.Duration `yaml:"uploads"`
}

// Cache are other registries whose images are served.
type Cache struct {
	Size      Size          `yaml:"size"`
	Fresh     time.Duration `yaml:"fresh"`
	Default   string        `yaml:"default"` // prefix
	Upstreams []Upstream    `yaml:"upstreams"`
}

// Upstream is one of them.
type Upstream struct {
	Prefix       string `yaml:"prefix"`
	Registry     string `yaml:"registry"` // host; the prefix where it is empty
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password-file"`
	Insecure     bool   `yaml:"insecure"` // any certificate, or none
}

// Hook is a webhook.
type Hook struct {
	URL          string            `yaml:"url"`
	SecretFile   string            `yaml:"secret-file"`
	Headers      map[string]string `yaml:"headers"`
	Events       []string          `yaml:"events"` // none: all
	Repositories []string          `yaml:"repositories"`
	Timeout      time.Duration     `yaml:"timeout"`
	Queue        int               `yaml:"queue"` // events that may wait
	Attempts     int               `yaml:"attempts"`
}

// Log says what is logged.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
	Access *bool  `yaml:"access"` // every request; yes by default
}

// Load reads the file that the flags name, lays the flags that were given on top, and checks the whole.
func Load(f *flags.Serve, given func(flag string) bool) (*Config, error) {
	c := &Config{
		Data: f.Data, Listen: f.Listen, Debug: f.Debug, Shutdown: f.Shutdown, Idle: 2 * time.Minute, Page: !f.NoPage,
		Auth:  Auth{Realm: f.Realm},
		GC:    GC{Interval: f.GCInterval, Grace: f.GCGrace, Uploads: f.GCUploads},
		Cache: Cache{Fresh: f.CacheFresh},
		Log:   Log{Level: f.LogLevel, Format: f.LogFormat},
	}
	if f.Config != "" {
		if err := c.read(f.Config); err != nil {
			return nil, err
		}
	}
	if err := c.overrule(f, given); err != nil {
		return nil, err
	}
	return c, c.check()
}

func (c *Config) read(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the configuration: %w", err)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("the configuration %s: %w", path, err)
	}
	return nil
}

// overrule takes over the flags that were given.
func (c *Config) overrule(f *flags.Serve, given func(string) bool) error {
	texts := map[string]struct {
		to   *string
		from string
	}{
		"data": {&c.Data, f.Data}, "listen": {&c.Listen, f.Listen}, "debug-listen": {&c.Debug, f.Debug}, "from-engine": {&c.FromEngine, f.FromEngine},
		"tls-cert": {&c.TLS.Cert, f.TLSCert}, "tls-key": {&c.TLS.Key, f.TLSKey}, "tls-client-ca": {&c.TLS.ClientCA, f.TLSClientCA},
		"htpasswd": {&c.Auth.Htpasswd, f.Htpasswd}, "realm": {&c.Auth.Realm, f.Realm}, "cache-default": {&c.Cache.Default, f.CacheDefault},
		"log-level": {&c.Log.Level, f.LogLevel}, "log-format": {&c.Log.Format, f.LogFormat},
	}
	for name, t := range texts {
		if given(name) {
			*t.to = t.from
		}
	}
	durations := map[string]struct {
		to   *time.Duration
		from time.Duration
	}{
		"gc-interval": {&c.GC.Interval, f.GCInterval}, "gc-grace": {&c.GC.Grace, f.GCGrace}, "gc-uploads": {&c.GC.Uploads, f.GCUploads},
		"cache-fresh": {&c.Cache.Fresh, f.CacheFresh}, "shutdown-timeout": {&c.Shutdown, f.Shutdown},
	}
	for name, d := range durations {
		if given(name) {
			*d.to = d.from
		}
	}
	if given("anonymous-pull") {
		c.Auth.AnonymousPull = f.AnonymousPull
	}
	if given("gc-untagged") {
		c.GC.Untagged = f.GCUntagged
	}
	if given("no-page") {
		c.Page = !f.NoPage
	}
	if f.Tokens && c.Auth.Token == nil {
		c.Auth.Token = &Token{}
	}
	return c.overruleLists(f)
}

func (c *Config) overruleLists(f *flags.Serve) error {
	for _, s := range []struct {
		flag string
		to   *Size
		from string
	}{{"quota-total", &c.Quotas.Total, f.QuotaTotal}, {"cache-size", &c.Cache.Size, f.CacheSize}} {
		if s.from == "" {
			continue
		}
		n, err := units.FromHumanSize(s.from)
		if err != nil || n < 0 {
			return fmt.Errorf("--%s %q is no size: a number of bytes, or one with kB, MB, GB, TB, is needed", s.flag, s.from)
		}
		*s.to = Size(n)
	}
	for _, q := range f.Quotas {
		pattern, s, ok := strings.Cut(q, "=")
		n, err := units.FromHumanSize(s)
		if !ok || err != nil || n <= 0 {
			return fmt.Errorf("--quota %q: PATTERN=SIZE is needed, as in team/**=10GB", q)
		}
		c.Quotas.Rules = append(c.Quotas.Rules, Rule{Repositories: pattern, Each: Size(n)})
	}
	for _, s := range f.Cache {
		prefix, registry, _ := strings.Cut(s, "=")
		c.Cache.Upstreams = append(c.Cache.Upstreams, Upstream{Prefix: prefix, Registry: registry})
	}
	for _, u := range f.Hooks {
		c.Hooks = append(c.Hooks, Hook{URL: u, SecretFile: f.HookSecretFile})
	}
	return nil
}

// check refuses what cannot be meant, all of it at once.
func (c *Config) check() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var err error
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return err
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		add("a certificate needs its key and a key its certificate (tls-cert, tls-key)")
	}
	if c.TLS.ClientCA != "" && c.TLS.Cert == "" {
		add("certificates of clients (tls-client-ca) need TLS (tls-cert, tls-key)")
	}
	if c.FromEngine != "" && len(c.Cache.Upstreams) > 0 {
		add("an engine's images (from-engine) and other registries' (cache) are served by registries of their own")
	}
	c.checkAuth(add)
	c.checkCache(add)
	for _, r := range c.Quotas.Rules {
		if err := naming.Pattern(r.Repositories).Check(); err != nil || r.Repositories == "" {
			add("the quota's pattern %q cannot be read", r.Repositories)
		}
		if r.Each == 0 && r.Together == 0 {
			add("the quota of %q has neither each nor together", r.Repositories)
		}
	}
	for i := range c.Hooks {
		c.Hooks[i].check(add)
	}
	if c.GC.Grace < 0 || c.GC.Interval < 0 || c.GC.Uploads < 0 {
		add("times of the garbage collection cannot be negative")
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.Log.Level)); err != nil {
		add("the log level %q is not known: debug, info, warn and error are", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		add("the log format %q is not known: text and json are", c.Log.Format)
	}
	return errors.Join(errs...)
}

func (c *Config) checkAuth(add func(string, ...any)) {
	a := c.Auth
	if t := a.Token; t != nil {
		switch {
		case t.Issuer == "" && a.Htpasswd == "":
			add("the registry's own tokens are for the users of a file (htpasswd); another issuer's need its name (auth.token.issuer)")
		case t.Issuer == "" && (t.JWKS != "" || t.Certs != ""):
			add("keys of another issuer (auth.token.jwks, certs) need its name (auth.token.issuer)")
		case t.Issuer != "" && t.JWKS == "" && t.Certs == "":
			add("tokens of %q need the keys that they are signed with (auth.token.jwks or certs)", t.Issuer)
		case t.Issuer != "" && t.Realm == "":
			add("clients need to know where %q hands out tokens (auth.token.realm)", t.Issuer)
		}
	}
	if a.Htpasswd == "" && a.Token == nil && (a.AnonymousPull || len(c.Rights) > 0) {
		add("rights need users: auth.htpasswd, or auth.token")
	}
	if _, err := c.AccessRights(); err != nil {
		add("%w", err)
	}
}

func (c *Config) checkCache(add func(string, ...any)) {
	seen := map[string]bool{}
	for i := range c.Cache.Upstreams {
		u := &c.Cache.Upstreams[i]
		if u.Registry == "" {
			u.Registry = u.Prefix
		}
		if err := naming.Repository(u.Prefix); err != nil {
			add("the cache's prefix %q cannot begin a repository's name: give another one, as in name=%s", u.Prefix, u.Registry)
		}
		if strings.Contains(u.Registry, "/") {
			add("the cached registry %q: a host, or host:port, is needed", u.Registry)
		}
		if seen[u.Prefix] {
			add("two caches have the prefix %q", u.Prefix)
		}
		seen[u.Prefix] = true
		if (u.Username == "") != (u.PasswordFile == "") {
			add("the user of the cached registry %q needs a password-file, and a password-file its user", u.Registry)
		}
	}
	if c.Cache.Default != "" && !seen[c.Cache.Default] {
		add("the cache's default %q is no cache's prefix", c.Cache.Default)
	}
}

func (h *Hook) check(add func(string, ...any)) {
	u, err := url.Parse(h.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		add("the hook %q: a URL with http or https is needed", h.URL)
	}
	for _, e := range h.Events {
		if e != "push" && e != "pull" && e != "delete" && e != "mount" {
			add("the hook %s: the event %q is not known; push, pull, delete and mount are", h.URL, e)
		}
	}
	for _, p := range h.Repositories {
		if err := naming.Pattern(p).Check(); err != nil {
			add("the hook %s: the pattern %q cannot be read", h.URL, p)
		}
	}
}

// AccessRights are the rights as access knows them.
func (c *Config) AccessRights() (access.Rights, error) {
	r := access.Rights{Groups: c.Groups, Anonymous: c.Auth.AnonymousPull}
	for _, in := range c.Rights {
		rule := access.Rule{Users: in.Users, Groups: in.Groups}
		for _, p := range in.Repositories {
			rule.Repositories = append(rule.Repositories, naming.Pattern(p))
		}
		for _, s := range in.Allow {
			a, err := access.ParseAction(s)
			if err != nil {
				return r, err
			}
			rule.Allow = append(rule.Allow, a)
		}
		r.Rules = append(r.Rules, rule)
	}
	return r, r.Check()
}

// Limits are the quotas as storage knows them.
func (c *Config) Limits() storage.Limits {
	l := storage.Limits{Total: int64(c.Quotas.Total)}
	for _, r := range c.Quotas.Rules {
		l.Rules = append(l.Rules, storage.LimitRule{Repositories: naming.Pattern(r.Repositories), Each: int64(r.Each), Together: int64(r.Together)})
	}
	return l
}

// Cached tells whether a repository is another registry's, kept here for a while.
func (c *Config) Cached(repository string) bool {
	for _, u := range c.Cache.Upstreams {
		if rest, ok := strings.CutPrefix(repository, u.Prefix+"/"); ok && rest != "" {
			return true
		}
	}
	return false
}

// Targets are the webhooks as hooks knows them.
func (c *Config) Targets() (out []hooks.Hook) {
	for _, h := range c.Hooks {
		t := hooks.Hook{URL: h.URL, SecretFile: h.SecretFile, Headers: h.Headers, Timeout: h.Timeout, Queue: h.Queue, Attempts: h.Attempts}
		for _, e := range h.Events {
			t.Actions = append(t.Actions, hooks.Action(e))
		}
		for _, p := range h.Repositories {
			t.Repositories = append(t.Repositories, naming.Pattern(p))
		}
		out = append(out, t)
	}
	return out
}
