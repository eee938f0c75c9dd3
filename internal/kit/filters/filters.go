// Package filters holds the "filters" query parameter of list and prune
// endpoints: per key a set of values; any value of a key may match, all keys must.
package filters

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Args are decoded filters. The zero value matches everything.
type Args map[string][]string

// Parse decodes the query parameter in both of its forms: {"key":{"value":true}}
// and, from old clients, {"key":["value"]}. Values are sorted.
func Parse(s string) (Args, error) {
	if s == "" {
		return nil, nil
	}
	a := Args{}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(s), &sets); err == nil {
		for k, set := range sets {
			a[k] = slices.Sorted(maps.Keys(set))
		}
		return a, nil
	}
	var lists map[string][]string
	if err := json.Unmarshal([]byte(s), &lists); err != nil {
		return nil, fmt.Errorf("invalid filter: %q is not a JSON object of keys and values: %w", s, errdefs.ErrInvalidArgument)
	}
	for k, l := range lists {
		slices.Sort(l)
		a[k] = slices.Compact(l)
	}
	return a, nil
}

// Check fails if a key is not among those allowed, naming it.
func (a Args) Check(allowed ...string) error {
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if !slices.Contains(allowed, k) {
			return fmt.Errorf("invalid filter '%s': %w", k, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// Has tells whether key was given.
func (a Args) Has(key string) bool { return len(a[key]) > 0 }

// Exact tells whether key is absent or has value among its values.
func (a Args) Exact(key, value string) bool {
	return len(a[key]) == 0 || slices.Contains(a[key], value)
}

// Match tells whether key is absent or one of its values, as a regular
// expression or plain text, is found in source.
func (a Args) Match(key, source string) bool {
	if len(a[key]) == 0 {
		return true
	}
	for _, v := range a[key] {
		if v == source || strings.Contains(source, v) {
			return true
		}
		if re, err := regexp.Compile(v); err == nil && re.MatchString(source) {
			return true
		}
	}
	return false
}

// Labels tells whether every value of key ("name" or "name=value") is among the
// labels. For the key "label!" callers negate the result per value with NoLabels.
func (a Args) Labels(key string, labels map[string]string) bool {
	for _, v := range a[key] {
		if !hasLabel(v, labels) {
			return false
		}
	}
	return true
}

// NoLabels tells whether none of the values of key is among the labels.
func (a Args) NoLabels(key string, labels map[string]string) bool {
	for _, v := range a[key] {
		if hasLabel(v, labels) {
			return false
		}
	}
	return true
}

func hasLabel(want string, labels map[string]string) bool {
	name, value, withValue := strings.Cut(want, "=")
	got, ok := labels[name]
	return ok && (!withValue || got == value)
}

// Bool reads a filter whose values are truth values ("dangling=true").
func (a Args) Bool(key string, def bool) (bool, error) {
	vs := a[key]
	if len(vs) == 0 {
		return def, nil
	}
	t := slices.Contains(vs, "1") || slices.Contains(vs, "true")
	f := slices.Contains(vs, "0") || slices.Contains(vs, "false")
	if t == f {
		return def, fmt.Errorf("invalid filter '%s=%s': true or false is needed: %w", key, strings.Join(vs, ","), errdefs.ErrInvalidArgument)
	}
	return t, nil
}

// Until reads the filter "until": a time stamp, seconds since 1970, or a span back from now. Without it the time is zero.
func (a Args) Until(now time.Time) (time.Time, error) {
	vs := a["until"]
	switch len(vs) {
	case 0:
		return time.Time{}, nil
	case 1:
	default:
		return time.Time{}, fmt.Errorf("more than one until filter specified: %w", errdefs.ErrInvalidArgument)
	}
	v := vs[0]
	if d, err := time.ParseDuration(v); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	if f, err := strconv.ParseFloat(v, 64); err == nil {
		return time.Unix(0, int64(f*float64(time.Second))), nil
	}
	return time.Time{}, fmt.Errorf("invalid filter 'until=%s': a time or a duration is needed: %w", v, errdefs.ErrInvalidArgument)
}
