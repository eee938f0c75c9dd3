package events

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

var filterKeys = []string{
	"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service", "type", "volume",
}

func matches(f filters.Args, m events.Message) bool {
	if len(f) == 0 {
		return true
	}
	base, _, _ := strings.Cut(string(m.Action), ":") // "exec_create: sh" is an exec_create
	if !f.Exact("event", string(m.Action)) && !f.Exact("event", base) {
		return false
	}
	if !f.Exact("type", string(m.Type)) || !f.Exact("scope", m.Scope) || !f.Labels("label", m.Actor.Attributes) {
		return false
	}
	for _, kind := range []string{"config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"} {
		if f.Has(kind) && !named(f[kind], kind, m) {
			return false
		}
	}
	return !f.Has("image") || ofImage(f["image"], m)
}

// named matches an object's ID or name by their beginnings, among events of its
// own kind only: a container's filter lets no network pass.
func named(values []string, kind string, m events.Message) bool {
	if string(m.Type) != kind {
		return false
	}
	for _, v := range values {
		if strings.HasPrefix(m.Actor.ID, v) || strings.HasPrefix(m.Actor.Attributes["name"], strings.TrimPrefix(v, "/")) {
			return true
		}
	}
	return false
}

// ofImage matches events of an image and of the containers made from it, by ID,
// by name, and by name without tag.
func ofImage(values []string, m events.Message) bool {
	attr := "image"
	if m.Type == events.ImageEventType {
		attr = "name"
	}
	name := m.Actor.Attributes[attr]
	for _, v := range values {
		for _, s := range []string{m.Actor.ID, name, untagged(m.Actor.ID), untagged(name)} {
			if s != "" && s == v {
				return true
			}
		}
	}
	return false
}

func untagged(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarName(ref)
}

// ParseTime reads a time as the API takes it: seconds since 1970 with an optional
// fraction, RFC 3339 and its shorter forms, or a duration before now ("10m").
// Empty is the zero time.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if t, ok := unixTime(s); ok {
		return t, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02Z07:00", "2006-01-02", "2006-01-02T15:04Z07:00"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("failed to parse %q as a time: seconds since 1970, an RFC 3339 time or a duration such as 10m is needed: %w", s, errdefs.ErrInvalidArgument)
}

func unixTime(s string) (time.Time, bool) {
	sec, frac, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(sec, 10, 64)
	if err != nil || n > math.MaxInt64/int64(time.Second) || n < 0 {
		return time.Time{}, false
	}
	if frac == "" {
		return time.Unix(n, 0), true
	}
	if len(frac) > 9 || strings.Trim(frac, "0123456789") != "" {
		return time.Time{}, false
	}
	nano, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
	return time.Unix(n, nano), err == nil
}
