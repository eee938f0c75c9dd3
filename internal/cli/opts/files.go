package opts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

var bom = []byte("\uFEFF")

// ReadEnv joins environment files and --env values, the latter after the former; NAME without value takes what lookup has.
func ReadEnv(files, values []string) ([]string, error) {
	return readLines(files, values, os.LookupEnv)
}

// ReadLabels joins label files and --label values.
func ReadLabels(files, values []string) ([]string, error) {
	return readLines(files, values, nil)
}

func readLines(files, values []string, lookup func(string) (string, bool)) ([]string, error) {
	var out []string
	for _, name := range files {
		lines, err := parseFile(name, lookup)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	return append(out, values...), nil
}

func parseFile(name string, lookup func(string) (string, bool)) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		b := sc.Bytes()
		if !utf8.Valid(b) {
			return nil, fmt.Errorf("invalid utf8 bytes at line %d: %v", n, b)
		}
		if n == 1 {
			b = bytes.TrimPrefix(b, bom)
		}
		line := strings.TrimLeft(string(b), " \t\r\n\v\f")
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, has := strings.Cut(line, "=")
		switch {
		case strings.ContainsAny(key, " \t\n\r\v\f"):
			return nil, fmt.Errorf("invalid env file (%s): variable '%s' contains whitespaces", name, key)
		case key == "":
			return nil, fmt.Errorf("invalid env file (%s): no variable name on line '%s'", name, line)
		case has:
			out = append(out, line)
		case lookup != nil:
			if v, ok := lookup(line); ok {
				out = append(out, line+"="+v)
			}
		default:
			out = append(out, line)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("reading %s", name), err)
	}
	return out, nil
}
