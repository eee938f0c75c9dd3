package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"
)

// Object is one inspected thing: its JSON as it came, and the same as a Go value for templates.
type Object struct {
	Raw   []byte
	Typed any
}

// Inspect prints what get returns for every reference: a JSON array, or one line each by a template. Errors of single
// references are printed after what was found.
func Inspect(w io.Writer, refs []string, tmplText string, get func(string) (Object, error)) error {
	var objects [][]byte
	var lines bytes.Buffer
	var tmpl *template.Template
	if tmplText == JSONKey {
		tmplText = "{{json .}}"
	}
	if tmplText != "" {
		t, err := Parse(tmplText)
		if err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		tmpl = t
	}
	var errs []error
	for _, ref := range refs {
		o, err := get(ref)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if tmpl == nil {
			objects = append(objects, o.Raw)
			continue
		}
		if err := executeOne(&lines, tmpl, tmplText, o); err != nil {
			errs = append(errs, err)
			break
		}
	}
	if tmpl != nil {
		if lines.Len() == 0 {
			lines.WriteByte('\n')
		}
		_, _ = lines.WriteTo(w)
	} else if err := writeArray(w, objects); err != nil {
		return err
	}
	return errors.Join(errs...)
}

func executeOne(w *bytes.Buffer, tmpl *template.Template, text string, o Object) error {
	var b bytes.Buffer
	var err error
	if o.Typed != nil {
		if err = tmpl.Execute(&b, o.Typed); err == nil {
			fmt.Fprintln(w, b.String())
			return nil
		}
	}
	// A field the Go types do not have may still be in what the engine sent.
	var raw any
	dec := json.NewDecoder(bytes.NewReader(o.Raw))
	dec.UseNumber()
	if derr := dec.Decode(&raw); derr != nil {
		return fmt.Errorf("unable to read inspect data: %w", derr)
	}
	strict, perr := Parse(text)
	if perr != nil {
		return perr
	}
	b.Reset()
	if rerr := strict.Option("missingkey=error").Execute(&b, raw); rerr != nil {
		return fmt.Errorf("template parsing error: %w", rerr)
	}
	fmt.Fprintln(w, b.String())
	return nil
}

func writeArray(w io.Writer, objects [][]byte) error {
	if len(objects) == 0 {
		_, err := io.WriteString(w, "[]\n")
		return err
	}
	var all bytes.Buffer
	all.WriteByte('[')
	all.Write(bytes.Join(objects, []byte{','}))
	all.WriteByte(']')
	var out bytes.Buffer
	if err := json.Indent(&out, all.Bytes(), "", "    "); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s\n", strings.TrimRight(out.String(), "\n"))
	return err
}
