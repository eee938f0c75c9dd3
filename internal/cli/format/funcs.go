package format

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
)

var funcs = template.FuncMap{
	"json": func(v any) string {
		b, err := jsonOf(v)
		if err != nil {
			panic(err)
		}
		return string(b)
	},
	"split":    strings.Split,
	"join":     strings.Join,
	"title":    title,
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"pad":      pad,
	"truncate": truncate,
	"table":    func(s string) string { return s },
}

// In a headline the functions leave the title as it is.
var headerFuncs = template.FuncMap{
	"json":     func(s string) string { return s },
	"title":    func(s string) string { return s },
	"lower":    func(s string) string { return s },
	"upper":    func(s string) string { return s },
	"truncate": func(s string, _ int) string { return s },
	"join":     func(s string, _ string) string { return s },
	"split":    func(s string, _ string) string { return s },
	"pad":      func(s string, _, _ int) string { return s },
}

func jsonOf(v any) ([]byte, error) {
	rv := reflect.ValueOf(v)
	if rv.IsValid() && rv.Kind() == reflect.Pointer && rv.Elem().Kind() == reflect.Struct && rv.NumMethod() > 0 {
		if _, ok := v.(row); ok {
			return marshal(v)
		}
	}
	return encode(v)
}

// row marks the row types, so that {{json .}} prints their placeholders.
type row interface{ Placeholders() }

// Row is embedded by row types.
type Row struct{}

// Placeholders marks a row.
func (Row) Placeholders() {}

// Parse makes a template with docker's functions.
func Parse(text string) (*template.Template, error) {
	if text == JSONKey {
		text = "{{json .}}"
	}
	return template.New("").Funcs(funcs).Parse(text)
}

// Execute prints one value by a template, for inspect-like commands.
func Execute(text string, v any) (string, error) {
	t, err := Parse(text)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return "", err
	}
	return b.String(), nil
}

func title(s string) string {
	prev := ' '
	return strings.Map(func(r rune) rune {
		start := !unicode.IsLetter(prev) && !unicode.IsDigit(prev) && prev != '_' && prev != '\''
		prev = r
		if start {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

func pad(s string, prefix, suffix int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", prefix) + s + strings.Repeat(" ", suffix)
}

func truncate(s string, n int) string {
	if utf8.RuneCountInString(s) < n {
		return s
	}
	r := []rune(s)
	if len(r) > n {
		r = r[:max(n, 0)]
	}
	return string(r)
}

// ShortID is the first 12 digits of an id, without the algorithm in front.
func ShortID(id string) string {
	if _, hex, ok := strings.Cut(id, ":"); ok {
		id = hex
	}
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

// Ellipsis cuts a text to n columns, an ellipsis being the last.
func Ellipsis(s string, n int) string {
	if n <= 0 {
		return ""
	}
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	if n == 1 {
		return string(r[0])
	}
	return string(r[:n-1]) + "…"
}

// Labels writes labels as k=v, sorted, with commas between.
func Labels(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	out := make([]string, 0, len(m))
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// Check runs a list format on a sample row, so that a wrong placeholder is refused at once.
func Check(f string, sample any) error {
	if f == TableKey || f == JSONKey || f == RawKey || f == "" {
		return nil
	}
	t, _, err := Table{Format: f}.parse()
	if err != nil {
		return err
	}
	if err := t.Execute(io.Discard, sample); err != nil {
		return fmt.Errorf("failed to execute template: %w", err)
	}
	return nil
}
