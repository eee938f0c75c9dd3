package instructions

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-connections/nat"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/spec"
)

// maxChanges bounds the instructions of one import or commit, and maxChange the length of each, in bytes.
const (
	maxChanges = 1000
	maxChange  = 64 << 10
)

// Apply applies Dockerfile instructions to a configuration, one a line. One that is unknown or malformed fails with
// errdefs.ErrInvalidArgument; those before it have been applied then.
func Apply(c *spec.ImageConfig, changes []string) error {
	if len(changes) > maxChanges {
		return fmt.Errorf("%d changes are more than %d: %w", len(changes), maxChanges, errdefs.ErrInvalidArgument)
	}
	for _, change := range changes {
		for line := range strings.Lines(change) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if len(line) > maxChange {
				return fmt.Errorf("a change of %d bytes is longer than %d: %w", len(line), maxChange, errdefs.ErrInvalidArgument)
			}
			if err := apply(c, line); err != nil {
				return fmt.Errorf("change %q: %w: %w", line, err, errdefs.ErrInvalidArgument)
			}
		}
	}
	return nil
}

func apply(c *spec.ImageConfig, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	word = strings.ToUpper(word)
	do, ok := known[word]
	if !ok {
		return fmt.Errorf("%s is not a valid change command", word)
	}
	if rest == "" && word != "CMD" && word != "ENTRYPOINT" {
		return fmt.Errorf("%s requires at least one argument", word)
	}
	return do(c, rest)
}

// known holds every instruction that may change a configuration, by its word.
var known = map[string]func(*spec.ImageConfig, string) error{
	"CMD": func(c *spec.ImageConfig, s string) error {
		c.Cmd = command(c, s)
		return nil
	},
	"ENTRYPOINT": func(c *spec.ImageConfig, s string) error {
		c.Entrypoint = command(c, s)
		return nil
	},
	"ENV": func(c *spec.ImageConfig, s string) error {
		pairs, err := keyValues(s)
		for _, p := range pairs {
			c.Env = slices.DeleteFunc(slices.Clone(c.Env), func(e string) bool { return strings.HasPrefix(e, p[0]+"=") })
			c.Env = append(c.Env, p[0]+"="+p[1])
		}
		return err
	},
	"LABEL": func(c *spec.ImageConfig, s string) error {
		pairs, err := keyValues(s)
		labels := maps.Clone(c.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		for _, p := range pairs {
			labels[p[0]] = p[1]
		}
		c.Labels = labels
		return err
	},
	"EXPOSE": func(c *spec.ImageConfig, s string) error {
		ports, _, err := nat.ParsePortSpecs(strings.Fields(s))
		if err != nil {
			return err
		}
		c.ExposedPorts = maps.Clone(c.ExposedPorts)
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		for p := range ports {
			c.ExposedPorts[string(p)] = struct{}{}
		}
		return nil
	},
	"ONBUILD": func(c *spec.ImageConfig, s string) error {
		switch w, _, _ := strings.Cut(strings.ToUpper(s), " "); w {
		case "ONBUILD":
			return fmt.Errorf("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
		case "MAINTAINER", "FROM":
			return fmt.Errorf("%s isn't allowed as an ONBUILD trigger", w)
		}
		c.OnBuild = append(slices.Clone(c.OnBuild), s)
		return nil
	},
	"USER": func(c *spec.ImageConfig, s string) error { c.User = unquote(s); return nil },
	"VOLUME": func(c *spec.ImageConfig, s string) error {
		paths, ok := jsonList(s)
		if !ok {
			var err error
			if paths, err = words(s); err != nil {
				return err
			}
		}
		c.Volumes = maps.Clone(c.Volumes)
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		for _, p := range paths {
			if p = strings.TrimSpace(p); p == "" {
				return fmt.Errorf("VOLUME specified can not be an empty string")
			}
			c.Volumes[p] = struct{}{}
		}
		return nil
	},
	"WORKDIR": func(c *spec.ImageConfig, s string) error {
		s = unquote(s)
		if !strings.HasPrefix(s, "/") {
			s = "/" + strings.TrimPrefix(strings.TrimSuffix(c.WorkingDir, "/")+"/"+s, "/")
		}
		c.WorkingDir = s
		return nil
	},
	"STOPSIGNAL": func(c *spec.ImageConfig, s string) error { c.StopSignal = unquote(s); return nil },
	"SHELL": func(c *spec.ImageConfig, s string) error {
		list, ok := jsonList(s)
		if !ok || len(list) == 0 {
			return fmt.Errorf("SHELL requires the arguments to be in JSON form")
		}
		c.Shell = list
		return nil
	},
	"HEALTHCHECK": healthcheck,
}

// command reads the exec form (a JSON list) or the shell form.
func command(c *spec.ImageConfig, s string) []string {
	if s == "" {
		return nil
	}
	if list, ok := jsonList(s); ok {
		return list
	}
	shell := c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), s)
}

func jsonList(s string) ([]string, bool) {
	if !strings.HasPrefix(s, "[") {
		return nil, false
	}
	var list []string
	if json.Unmarshal([]byte(s), &list) != nil {
		return nil, false
	}
	return list, true
}

func healthcheck(c *spec.ImageConfig, s string) error {
	h := &dockerspec.HealthcheckConfig{}
	fields := strings.Fields(s)
	for len(fields) > 0 && strings.HasPrefix(fields[0], "--") {
		name, value, _ := strings.Cut(fields[0][2:], "=")
		s = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(s), fields[0]))
		fields = fields[1:]
		if name == "retries" {
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 {
				return fmt.Errorf("--retries must be a number, not %q", value)
			}
			h.Retries = n
			continue
		}
		target := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval}[name]
		if target == nil {
			return fmt.Errorf("unknown flag: %s", name)
		}
		d, err := time.ParseDuration(value)
		if err != nil || d != 0 && d < time.Millisecond {
			return fmt.Errorf("--%s must be a duration of at least 1ms, not %q", name, value)
		}
		*target = d
	}
	word, rest, _ := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToUpper(word) {
	case "NONE":
		if rest != "" {
			return fmt.Errorf("HEALTHCHECK NONE takes no arguments")
		}
		h.Test = []string{"NONE"}
	case "CMD":
		if rest == "" {
			return fmt.Errorf("missing command after HEALTHCHECK CMD")
		}
		if list, ok := jsonList(rest); ok {
			h.Test = append([]string{"CMD"}, list...)
		} else {
			h.Test = []string{"CMD-SHELL", rest}
		}
	default:
		return fmt.Errorf("unknown type %q in HEALTHCHECK (try CMD)", word)
	}
	c.Healthcheck = h
	return nil
}

// keyValues reads "key=value …" with quotes, or the old form "key rest of the line".
func keyValues(s string) ([][2]string, error) {
	first, rest, _ := strings.Cut(s, " ")
	if !strings.Contains(first, "=") {
		if strings.TrimSpace(rest) == "" {
			return nil, fmt.Errorf("%q must have a value", first)
		}
		return [][2]string{{unquote(first), strings.TrimSpace(rest)}}, nil
	}
	list, err := words(s)
	if err != nil {
		return nil, err
	}
	var out [][2]string
	for _, w := range list {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fmt.Errorf("can't find = in %q: must be of the form name=value", w)
		}
		if k == "" {
			return nil, fmt.Errorf("a name is missing before = in %q", w)
		}
		out = append(out, [2]string{k, v})
	}
	return out, nil
}

// words splits at white space outside of quotes and takes quotes and escapes away.
func words(s string) (out []string, err error) {
	var b strings.Builder
	var quote rune
	escaped, open := false, false
	for _, r := range s {
		switch {
		case escaped:
			if quote == '"' && r != '"' && r != '\\' && r != '$' {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, open = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, open = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if open {
				out = append(out, b.String())
				b.Reset()
			}
			open = false
		default:
			b.WriteRune(r)
			open = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("unexpected end of statement while looking for matching %q", quote)
	}
	if open {
		out = append(out, b.String())
	}
	return out, nil
}

func unquote(s string) string {
	if w, err := words(s); err == nil && len(w) == 1 {
		return w[0]
	}
	return s
}
