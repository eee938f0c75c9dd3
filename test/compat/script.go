package compat

import (
	"bufio"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

//go:embed scenarios/*.txt exceptions.txt
var files embed.FS

// scenario is a named list of shell commands.
type scenario struct {
	file, name string
	commands   []string
}

// key names a scenario in exceptions.txt.
func (s scenario) key() string { return s.file + "/" + s.name }

// scenarios reads all scenario files, in order. A command may go on in the next
// line after a backslash.
func scenarios() ([]scenario, error) {
	names, err := fs.Glob(files, "scenarios/*.txt")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var all []scenario
	seen := map[string]bool{}
	for _, n := range names {
		b, err := files.ReadFile(n)
		if err != nil {
			return nil, err
		}
		short := strings.TrimSuffix(strings.TrimPrefix(n, "scenarios/"), ".txt")
		var cur *scenario
		joined := ""
		sc := bufio.NewScanner(strings.NewReader(string(b)))
		for line := 1; sc.Scan(); line++ {
			text := strings.TrimSpace(sc.Text())
			if joined == "" {
				if text == "" || strings.HasPrefix(text, "#") {
					continue
				}
				if name, ok := strings.CutPrefix(text, "== "); ok {
					all = append(all, scenario{file: short, name: name})
					cur = &all[len(all)-1]
					if seen[cur.key()] {
						return nil, fmt.Errorf("%s:%d: the scenario %q exists twice", n, line, name)
					}
					seen[cur.key()] = true
					continue
				}
			}
			if part, ok := strings.CutSuffix(text, "\\"); ok {
				joined += part
				continue
			}
			if cur == nil {
				return nil, fmt.Errorf("%s:%d: a command before the first scenario", n, line)
			}
			cur.commands = append(cur.commands, joined+text)
			joined = ""
		}
	}
	return all, nil
}

// exception says why a scenario may differ, and for which commands.
type exception struct {
	scenario string
	reason   string
	used     bool
}

// exceptions reads "file/name: reason" lines.
func exceptions() (map[string]*exception, error) {
	b, err := files.ReadFile("exceptions.txt")
	if err != nil {
		return nil, err
	}
	all := map[string]*exception{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, " -- ")
		if !ok || len(reason) < 10 {
			return nil, fmt.Errorf("exceptions.txt: %q has no reason", line)
		}
		all[name] = &exception{scenario: name, reason: reason}
	}
	return all, nil
}

var replacements = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "<digest>"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<id>"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "<id12>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "<time>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? [+-]\d{4} [A-Z]{3}`), "<time>"},
	{regexp.MustCompile(`\b1[67]\d{8}\.\d{9}\b`), "<stamp>"},
	{regexp.MustCompile(`(?i)(Less than a second|About (a|an) (second|minute|hour)|\d+ (seconds?|minutes?|hours?|days?|weeks?|months?|years?))( ago)?`), "<duration>"},
	{regexp.MustCompile(`\b172\.(1[6-9]|2\d|3[01])\.\d+\.\d+\b`), "<ip>"},
	{regexp.MustCompile(`\b(02|[0-9a-f]{2}):42:ac(:[0-9a-f]{2}){3}\b|\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`), "<mac>"},
	{regexp.MustCompile(`docker0|gt[0-9a-f]{6}|gantry0`), "<bridge>"},
	{regexp.MustCompile(`/var/tmp/gt-[0-9a-f]{6}-\d+`), "<dir>"},
	{regexp.MustCompile(`execDuration=\d+`), "execDuration=<n>"},
}

// comparable turns what differs from run to run into placeholders.
func comparable(s string) string {
	for _, r := range replacements {
		s = r.re.ReplaceAllString(s, r.with)
	}
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.TrimRight(squeeze(line), " \n"))
	}
	return strings.Join(lines, "\n")
}

// squeeze makes table columns comparable, whose width depends on what was replaced.
func squeeze(s string) string { return wide.ReplaceAllString(s, "   ") }

var wide = regexp.MustCompile(` {3,}`)
