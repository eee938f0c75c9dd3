package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Table is the options as the Markdown table of docs/configuration.md.
func Table() string {
	rows := slices.Clone(Options)
	slices.SortStableFunc(rows, func(a, b Option) int { return cmp.Compare(cmp.Or(a.Flag, a.Key), cmp.Or(b.Flag, b.Key)) })
	var b strings.Builder
	b.WriteString("| flag | daemon.json | status | SIGHUP | what |\n| --- | --- | --- | --- | --- |\n")
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	for _, o := range rows {
		flag := ""
		if o.Flag != "" {
			flag = "--" + o.Flag
			if o.Short != "" {
				flag = "-" + o.Short + ", " + flag
			}
		}
		reload := ""
		if o.Reload {
			reload = "rereads"
		}
		usage := o.Usage
		if o.Own {
			usage += " (not in dockerd)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code(flag), code(o.Key), o.Status, reload, strings.ReplaceAll(usage, "|", "\\|"))
	}
	return b.String()
}
