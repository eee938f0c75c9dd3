// Package flags has the flags of the registry's commands. The command line registers them for its help and its completion,
// the registry's own executable reads them: so it needs next to nothing.
package flags

import (
	"time"

	"github.com/spf13/pflag"
)

// Defaults that the help shows.
const (
	DefaultData   = "/var/lib/gantry-registry"
	DefaultListen = "127.0.0.1:5000"
	DefaultEngine = "unix:///run/gantry.sock"
)

// Serve are the flags of serve. What the configuration file says counts where a flag is not given.
type Serve struct {
	Config string
	Data   string
	Listen string
	Debug  string

	TLSCert, TLSKey, TLSClientCA string

	Htpasswd      string
	Realm         string
	AnonymousPull bool
	Tokens        bool

	QuotaTotal string
	Quotas     []string

	Cache        []string
	CacheDefault string
	CacheSize    string
	CacheFresh   time.Duration

	GCInterval, GCGrace, GCUploads time.Duration
	GCUntagged                     bool

	Hooks          []string
	HookSecretFile string

	FromEngine string
	NoPage     bool
	LogLevel   string
	LogFormat  string
	Shutdown   time.Duration
}

// Register adds the flags.
func (s *Serve) Register(f *pflag.FlagSet) {
	f.StringVarP(&s.Config, "config", "c", "", "YAML file with the configuration; flags overrule it")
	f.StringVar(&s.Data, "data", DefaultData, "Folder that everything is kept in")
	f.StringVarP(&s.Listen, "listen", "l", DefaultListen, "Address to listen at")
	f.StringVar(&s.Debug, "debug-listen", "", "Address for metrics and health, without authorization; none by default")
	f.StringVar(&s.TLSCert, "tls-cert", "", "File with the certificate and its chain; read again on SIGHUP")
	f.StringVar(&s.TLSKey, "tls-key", "", "File with the certificate's key")
	f.StringVar(&s.TLSClientCA, "tls-client-ca", "", "File with authorities of which each client needs a certificate")
	f.StringVar(&s.Htpasswd, "htpasswd", "", "File of users with bcrypt hashes; read again on SIGHUP")
	f.StringVar(&s.Realm, "realm", "gantry registry", "What clients ask the password for")
	f.BoolVar(&s.AnonymousPull, "anonymous-pull", false, "Let everybody pull, though there are users")
	f.BoolVar(&s.Tokens, "tokens", false, "Hand out tokens to the users of the file, instead of asking for a password each time")
	f.StringVar(&s.QuotaTotal, "quota-total", "", `Bytes that all content together may take ("200GB")`)
	f.StringArrayVar(&s.Quotas, "quota", nil, `Bytes that each repository of a pattern may take ("team/**=10GB")`)
	f.StringArrayVar(&s.Cache, "cache", nil, `Serve another registry's images below a prefix ("docker.io", "hub=docker.io")`)
	f.StringVar(&s.CacheDefault, "cache-default", "", "Prefix of the cached registry that names are looked for in which are not here: a mirror")
	f.StringVar(&s.CacheSize, "cache-size", "", "Bytes that what is cached may take; what was asked for longest ago goes first")
	f.DurationVar(&s.CacheFresh, "cache-fresh", 5*time.Minute, "How long a cached tag is served without asking its registry")
	f.DurationVar(&s.GCInterval, "gc-interval", 6*time.Hour, "How often garbage is collected; 0 for never")
	f.DurationVar(&s.GCGrace, "gc-grace", 24*time.Hour, "How old garbage has to be")
	f.BoolVar(&s.GCUntagged, "gc-untagged", false, "Collect manifests without a tag, too")
	f.DurationVar(&s.GCUploads, "gc-uploads", 7*24*time.Hour, "When an upload that does not go on is given up")
	f.StringArrayVar(&s.Hooks, "hook", nil, "URL that events are sent to")
	f.StringVar(&s.HookSecretFile, "hook-secret-file", "", "File with the secret that events are signed with")
	f.StringVar(&s.FromEngine, "from-engine", "", "Serve the images of an engine, read-only")
	f.Lookup("from-engine").NoOptDefVal = DefaultEngine
	f.BoolVar(&s.NoPage, "no-page", false, "Do not show the web page")
	f.StringVar(&s.LogLevel, "log-level", "info", `How much to log ("debug", "info", "warn", "error")`)
	f.StringVar(&s.LogFormat, "log-format", "text", `Form of the log ("text", "json")`)
	f.DurationVar(&s.Shutdown, "shutdown-timeout", 30*time.Second, "How long requests may go on after SIGTERM")
}

// Collect are the flags of gc.
type Collect struct {
	Config   string
	Data     string
	DryRun   bool
	Untagged bool
	Grace    time.Duration
	Quiet    bool
}

// Register adds the flags.
func (c *Collect) Register(f *pflag.FlagSet) {
	f.StringVarP(&c.Config, "config", "c", "", "YAML file with the registry's configuration")
	f.StringVar(&c.Data, "data", DefaultData, "Folder of the registry")
	f.BoolVarP(&c.DryRun, "dry-run", "n", false, "Only show what would be removed")
	f.BoolVar(&c.Untagged, "untagged", false, "Collect manifests without a tag, too")
	f.DurationVar(&c.Grace, "grace", 24*time.Hour, "How old garbage has to be")
	f.BoolVarP(&c.Quiet, "quiet", "q", false, "Only show the sums")
}

// User are the flags of user.
type User struct {
	Htpasswd      string
	PasswordStdin bool
}

// Register adds the flags; setting asks for a password.
func (u *User) Register(f *pflag.FlagSet, setting bool) {
	f.StringVar(&u.Htpasswd, "htpasswd", DefaultData+"/htpasswd", "File of users")
	if setting {
		f.BoolVar(&u.PasswordStdin, "password-stdin", false, "Read the password from STDIN")
	}
}
