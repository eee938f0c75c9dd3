// Package format prints results: tables, JSON and Go templates, with docker's template functions and column
// names. A row is a pointer to a struct whose exported methods without parameters are the placeholders.
package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"
)

// Names of the formats that are no templates.
const (
	TableKey = "table"
	JSONKey  = "json"
	RawKey   = "raw"
)

// Table describes one kind of output.
type Table struct {
	Format string            // "table …", a template, or "json"
	Header map[string]string // placeholder → column title
	Trunc  bool
}

// IsTable says whether a format has a headline.
func IsTable(f string) bool { return strings.HasPrefix(f, TableKey) }

var unescape = strings.NewReplacer(`\t`, "\t", `\n`, "\n")

// Write prints rows.
func Write[R any](w io.Writer, t Table, rows []R) error {
	tmpl, text, err := t.parse()
	if err != nil {
		return err
	}
	if text == JSONKey || text == "{{json .}}" || text == "{{ json . }}" {
		// What a template would print, without running one.
		for _, r := range rows {
			b, err := marshal(r)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s\n", b)
		}
		return nil
	}
	var buf bytes.Buffer
	for _, r := range rows {
		if err := tmpl.Execute(&buf, r); err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		buf.WriteByte('\n')
	}
	if !IsTable(t.Format) {
		_, err := buf.WriteTo(w)
		return err
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	var head bytes.Buffer
	ht, err := template.New("").Funcs(headerFuncs).Parse(text)
	if err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	if err := ht.Execute(&head, t.Header); err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	fmt.Fprintln(tw, head.String())
	if _, err := buf.WriteTo(tw); err != nil {
		return err
	}
	return tw.Flush()
}

func (t Table) parse() (*template.Template, string, error) {
	text := t.Format
	if IsTable(text) {
		text = text[len(TableKey):]
	}
	text = unescape.Replace(strings.Trim(text, " "))
	if t.Format == JSONKey {
		return nil, JSONKey, nil
	}
	tmpl, err := Parse(text)
	if err != nil {
		return nil, "", fmt.Errorf("template parsing error: %w", err)
	}
	return tmpl, text, nil
}

// Rows of this kind know their own JSON.
type jsoner interface{ JSON() any }

// marshal encodes a row: an object of all its placeholders.
func marshal(row any) ([]byte, error) {
	var v any = row
	if j, ok := row.(jsoner); ok {
		v = j.JSON()
	} else if rv := reflect.ValueOf(row); rv.Kind() == reflect.Pointer {
		m := map[string]any{}
		for i := range rv.NumMethod() {
			f := rv.Method(i)
			if f.Type().NumIn() == 0 && f.Type().NumOut() == 1 {
				m[rv.Type().Method(i).Name] = f.Call(nil)[0].Interface()
			}
		}
		v = m
	}
	return encode(v)
}

func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}
