package images

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// filter makes one predicate of all filters.
func (q *querier) filter(a filters.Args) (func(*entry) bool, error) {
	dangling, err := a.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	before, after := time.Time{}, time.Time{}
	for _, key := range []string{"before", "since"} {
		for _, ref := range a[key] {
			e, _, err := q.catalog.find(ref)
			if err != nil {
				return nil, err
			}
			if c := e.created(); key == "before" && (before.IsZero() || c.Before(before)) {
				before = c
			} else if key == "since" && c.After(after) {
				after = c
			}
		}
	}
	until, err := parseUntil(a["until"])
	if err != nil {
		return nil, err
	}
	if err := checkPatterns(a["reference"]); err != nil {
		return nil, err
	}
	return func(e *entry) bool {
		c := e.created()
		switch {
		case a.Has("dangling") && dangling != (len(e.names) == 0),
			!before.IsZero() && !c.Before(before), !after.IsZero() && !c.After(after),
			!until.IsZero() && !c.Before(until),
			!a.Labels("label", e.labels()), !a.NoLabels("label!", e.labels()),
			a.Has("reference") && !e.matches(a["reference"]):
			return false
		}
		return true
	}, nil
}

func checkPatterns(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("invalid filter 'reference=%s': %w: %w", p, err, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// parseIdle reads the longest of several durations.
func parseIdle(values []string) (longest time.Duration, err error) {
	for _, v := range values {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("invalid filter 'unused-for=%s': a duration such as 72h is needed: %w", v, errdefs.ErrInvalidArgument)
		}
		longest = max(longest, d)
	}
	return longest, nil
}

// parseUntil reads the earliest of several times: UNIX seconds, a date, or a duration before now.
func parseUntil(values []string) (time.Time, error) {
	var first time.Time
	for _, v := range values {
		t, err := parseTime(v, time.Now())
		if err != nil {
			return first, fmt.Errorf("invalid filter 'until=%s': %w: %w", v, err, errdefs.ErrInvalidArgument)
		}
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first, nil
}

func parseTime(v string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(v); err == nil {
		return now.Add(-d), nil
	}
	if sec, nano, _ := strings.Cut(v, "."); sec != "" {
		if n, err := strconv.ParseInt(sec, 10, 64); err == nil {
			ns, _ := strconv.ParseInt((nano + "000000000")[:9], 10, 64)
			return time.Unix(n, ns), nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("neither a duration nor a time")
}
