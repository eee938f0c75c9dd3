// Package hostsfile edits a container's /etc/hosts without touching what others wrote into it.
package hostsfile

import (
	"slices"
	"strings"
)

// Replace takes the lines of old that are not in now out of text, and puts those of now in that are not in old: where the
// first of the old ones was or, if there was none, at the end.
func Replace(text string, old, now []string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if text == "" {
		lines = nil
	}
	at := len(lines)
	for _, l := range old {
		i := slices.Index(lines, l)
		if i < 0 {
			continue
		}
		if slices.Contains(now, l) {
			at = i + 1
			continue
		}
		lines = slices.Delete(lines, i, i+1)
		at = min(i, len(lines))
	}
	for _, l := range now {
		if !slices.Contains(old, l) && !slices.Contains(lines, l) {
			lines = slices.Insert(lines, min(at, len(lines)), l)
			at = min(at, len(lines)) + 1
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// ReplaceNamed puts each of now in the place of the line that names the same first name, whatever its address was.
func ReplaceNamed(text string, now []string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for _, l := range now {
		want := strings.Fields(l)
		for i, have := range lines {
			if f := strings.Fields(have); len(f) > 1 && len(want) > 1 && f[1] == want[1] {
				lines[i] = l
			}
		}
	}
	return strings.Join(lines, "\n") + "\n"
}
