// Package timestamp reads the times people write for --since and --until.
package timestamp

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// layouts are tried in this order; those without zone are local time.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02T15Z07:00",
	"2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"}

// Parse gives seconds.nanoseconds since 1970 for a time, a Unix time (passed through) or a duration ago.
func Parse(v string) (string, error) {
	if d, err := time.ParseDuration(v); v != "0" && err == nil {
		return format(time.Now().Add(-d)), nil
	}
	for _, l := range layouts {
		loc := time.Local
		if t, err := time.ParseInLocation(l, v, loc); err == nil {
			return format(t), nil
		}
	}
	sec, nano, has := strings.Cut(v, ".")
	if _, err := strconv.ParseInt(sec, 10, 64); err == nil {
		if !has {
			return v, nil
		}
		if _, err := strconv.ParseInt(nano, 10, 64); err == nil {
			return v, nil
		}
	}
	return "", fmt.Errorf("failed to parse value as time or duration: %q", v)
}

func format(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
