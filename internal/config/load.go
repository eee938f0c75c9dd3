package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/spf13/pflag"
)

// MaxFile is the largest daemon.json that is read, in bytes.
const MaxFile = 1 << 20

// Loader binds the options to a flag set, and later merges the file into them.
type Loader struct {
	cfg    *Config
	values []*value
	flags  *pflag.FlagSet
}

// NewLoader makes the flags of a daemon started as argv0.
func NewLoader(argv0 string, flags *pflag.FlagSet) *Loader {
	l := &Loader{cfg: Defaults(argv0), flags: flags}
	for i := range Options {
		o := &Options[i]
		v := newValue(o, l.cfg)
		l.values = append(l.values, v)
		if o.Flag == "" || o.Flag == "help" || o.Flag == "version" {
			continue
		}
		f := flags.VarPF(v, o.Flag, o.Short, o.Usage)
		f.Hidden = o.Hidden
		if o.Type == "bool" {
			f.NoOptDefVal = "true"
		}
		if f.DefValue == "[]" || f.DefValue == "map[]" {
			f.DefValue = ""
		}
	}
	return l
}

// Load merges daemon.json and the environment into the parsed flags and checks
// the result. Errors are errdefs.InvalidArgument, or NotImplemented for an
// option that the engine does not have yet.
func (l *Loader) Load(getenv func(string) string) (*Config, error) {
	c := l.cfg
	if getenv("DOCKER_TLS_VERIFY") != "" && !l.flags.Changed("tlsverify") {
		c.TLSVerify, c.TLSGiven = true, true
	}
	fromFile, err := l.file()
	if err != nil {
		return nil, err
	}
	for _, v := range l.values {
		if !v.set && !fromFile[v] {
			continue
		}
		switch v.opt.Flag {
		case "tls", "tlsverify":
			c.TLSGiven = true
		case "default-cgroupns-mode":
			c.CgroupnsGiven = true
		}
		name := "--" + v.opt.Flag
		if fromFile[v] {
			name = v.opt.Key
		}
		switch {
		case v.opt.Status == Refused && !v.empty():
			return nil, fmt.Errorf("%s is not supported by this version of gantryd (%s): leave it out: %w", name, reason(v.opt), errdefs.ErrNotImplemented)
		case v.opt.Status == Noted:
			c.Notes = append(c.Notes, fmt.Sprintf("%s has no effect: %s", name, reason(v.opt)))
		}
	}
	if c.TLSVerify {
		c.TLS = true
	}
	dir := getenv("DOCKER_CERT_PATH")
	if dir == "" {
		if home := getenv("HOME"); home != "" {
			dir = filepath.Join(home, ".docker")
		}
	}
	for p, name := range map[*string]string{&c.TLSCACert: "ca.pem", &c.TLSCert: "cert.pem", &c.TLSKey: "key.pem"} {
		if *p == "" && dir != "" {
			*p = filepath.Join(dir, name)
		}
	}
	if c.Debug {
		c.LogLevel = "debug"
	}
	if len(c.Hosts) == 0 {
		c.Hosts = []string{c.DefaultHost()}
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return c, nil
}

func reason(o *Option) string {
	if _, why, ok := strings.Cut(o.Usage, ": "); ok {
		return why
	}
	return o.Usage
}

// empty tells whether the value is what leaving the option out would give.
func (v *value) empty() bool {
	if v.opt.Flag == "" {
		return false
	}
	switch s := v.String(); s {
	case "", "false", "0", "[]", "map[]":
		return true
	}
	return false
}

// file reads daemon.json. A missing file is an error only if its name was given.
func (l *Loader) file() (map[*value]bool, error) {
	given := l.flags.Changed("config-file")
	data, err := readLimited(l.cfg.File)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return nil, nil
	}
	if err == nil {
		var used map[*value]bool
		if used, err = l.merge(data); err == nil {
			return used, nil
		}
	}
	class := errdefs.ErrInvalidArgument
	return nil, fmt.Errorf("unable to configure the Docker daemon with file %s: %w: %w", l.cfg.File, err, class)
}

func readLimited(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > MaxFile {
		return nil, invalid("the file has %d bytes, more than %d", st.Size(), MaxFile)
	}
	return os.ReadFile(path)
}

// merge applies a file's content: first everything is checked, then applied.
func (l *Loader) merge(data []byte) (map[*value]bool, error) {
	keys, err := flatten(data)
	if err != nil {
		return nil, err
	}
	byKey := map[string]*value{}
	for _, v := range l.values {
		if v.opt.Key != "" {
			byKey[v.opt.Key] = v
		}
	}
	var unknown, conflicts []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		v := byKey[k]
		switch {
		case v == nil:
			unknown = append(unknown, k)
		case v.set:
			var x any
			_ = json.Unmarshal(keys[k], &x)
			conflicts = append(conflicts, fmt.Sprintf("%s: (from flag: %v, from file: %v)", k, v, x))
		}
	}
	if len(unknown) > 0 {
		return nil, invalid("the following directives don't match any configuration option: %s", strings.Join(unknown, ", "))
	}
	if len(conflicts) > 0 {
		return nil, invalid("the following directives are specified both as a flag and in the configuration file: %s", strings.Join(conflicts, ", "))
	}
	used := map[*value]bool{}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if err := byKey[k].setJSON(keys[k]); err != nil {
			return nil, invalid("%s: %w", k, err)
		}
		used[byKey[k]] = true
	}
	return used, nil
}

// flatten gives the file's keys with "proxies" taken apart. A UTF-8 byte order
// mark is skipped; an empty file is an empty object.
func flatten(data []byte) (map[string]json.RawMessage, error) {
	text := strings.TrimPrefix(string(data), "\ufeff")
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &top); err != nil {
		return nil, err
	}
	if raw, ok := top["proxies"]; ok {
		var p map[string]json.RawMessage
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, invalid("proxies: %w", err)
		}
		delete(top, "proxies")
		for k, v := range p {
			top["proxies."+k] = v
		}
	}
	return top, nil
}

// Reload reads the file again and gives a copy of old with the reloadable
// options changed, and the names of those that changed. Options given as flags
// keep their values. Other changes in the file wait for a restart: they are
// named in pending.
func Reload(argv0 string, args []string, old *Config, getenv func(string) string) (fresh *Config, changed, pending []string, err error) {
	flags := pflag.NewFlagSet(argv0, pflag.ContinueOnError)
	l := NewLoader(argv0, flags)
	if err := flags.Parse(args); err != nil {
		return nil, nil, nil, err
	}
	now, err := l.Load(getenv)
	if err != nil {
		return nil, nil, nil, err
	}
	next := *old
	for i := range Options {
		o := &Options[i]
		if o.field == nil || o.Key == "" {
			continue
		}
		a, b := newValue(o, &next), newValue(o, now)
		if a.encode() == b.encode() {
			continue
		}
		if !o.Reload {
			pending = append(pending, o.Key)
			continue
		}
		assign(a.ptr, b.ptr)
		changed = append(changed, o.Key)
	}
	return &next, changed, pending, nil
}

func (v *value) encode() string {
	switch p := v.ptr.(type) {
	case bytesField:
		return fmt.Sprint(*p.p)
	case single:
		return ""
	}
	b, _ := json.Marshal(v.ptr)
	return string(b)
}

func assign(to, from any) {
	switch t := to.(type) {
	case *string:
		*t = *from.(*string)
	case *bool:
		*t = *from.(*bool)
	case *int:
		*t = *from.(*int)
	case bytesField:
		*t.p = *from.(bytesField).p
	case *[]string:
		*t = *from.(*[]string)
	case *map[string]string:
		*t = *from.(*map[string]string)
	}
}
