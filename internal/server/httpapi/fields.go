package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
)

// Field is a part of an answer that came with an API version: clients that speak an
// older one do not see it. Path is the way to it by keys, "*" for each key of a map;
// lists are gone through: "NetworkSettings.Networks.*.DNSNames".
type Field struct{ Path, Since string }

// Omitter is a http.ResponseWriter whose client must not see some fields.
type Omitter interface {
	// Omits gives the fields that came after the client's version.
	Omits() []Field
}

// Later picks the fields that came after version v.
func Later(fields []Field, v string) []Field {
	var out []Field
	for _, f := range fields {
		if v != "" && VersionLess(v, f.Since) {
			out = append(out, f)
		}
	}
	return out
}

func omitted(w http.ResponseWriter) []Field {
	if o, ok := w.(Omitter); ok {
		return o.Omits()
	}
	return nil
}

// writePruned encodes v without the fields. Newer clients never come here, so that only
// old ones pay for the second look.
func writePruned(w http.ResponseWriter, v any, fields []Field) error {
	var whole bytes.Buffer
	if err := encode(&whole, v); err != nil {
		return err
	}
	paths := make([][]string, len(fields))
	for i, f := range fields {
		paths[i] = strings.Split(f.Path, ".")
	}
	dec := json.NewDecoder(&whole)
	dec.UseNumber()
	var out bytes.Buffer
	if err := prune(&out, dec, paths); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

// prune copies one value; what no path leads into is copied as it is.
func prune(out *bytes.Buffer, dec *json.Decoder, paths [][]string) error {
	if len(paths) == 0 {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		out.Write(raw)
		return err
	}
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	open, nested := tok.(json.Delim)
	if !nested {
		return appendJSON(out, tok)
	}
	out.WriteByte(byte(open))
	first := true
	for dec.More() {
		next := paths
		var key string
		if open == '{' {
			k, err := dec.Token()
			if err != nil {
				return err
			}
			key, _ = k.(string)
			var drop bool
			if next, drop = below(paths, key); drop {
				var skipped json.RawMessage
				if err := dec.Decode(&skipped); err != nil {
					return err
				}
				continue
			}
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		if open == '{' {
			if err := appendJSON(out, key); err != nil {
				return err
			}
			out.WriteByte(':')
		}
		if err := prune(out, dec, next); err != nil {
			return err
		}
	}
	end, err := dec.Token()
	if d, ok := end.(json.Delim); ok {
		out.WriteByte(byte(d))
	}
	return err
}

// below gives what is left of the paths behind a key; one that ends there drops the key.
func below(paths [][]string, key string) (rest [][]string, drop bool) {
	for _, p := range paths {
		if p[0] != key && p[0] != "*" {
			continue
		}
		if len(p) == 1 {
			return nil, true
		}
		rest = append(rest, p[1:])
	}
	return rest, false
}

func encode(out *bytes.Buffer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func appendJSON(out *bytes.Buffer, v any) error {
	if err := encode(out, v); err != nil {
		return err
	}
	out.Truncate(out.Len() - 1) // the encoder's line feed
	return nil
}
