// Package apicheck holds answers against the Engine API's own description: the
// swagger.yaml of module github.com/moby/moby/api. A required field that is
// missing, a type that is wrong, a field that the description does not know:
// each is an error with its place in the answer.
//
//	apicheck.Response(t, "GET", "/containers/{id}/json", 200, body)
package apicheck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Spec is the parsed description.
type Spec struct{ root map[string]any }

var module = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module github.com/moby/moby/api: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

func read(name string) (*Spec, error) {
	dir, err := module()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return Parse(data)
}

var load = sync.OnceValues(func() (*Spec, error) { return read("swagger.yaml") })

var versions struct {
	sync.Mutex
	parsed map[string]*Spec
}

// Version reads the description of one API version, "1.25" and up: what was published
// with that version, with its fields and without those that came later.
func Version(t testing.TB, v string) *Spec {
	t.Helper()
	versions.Lock()
	defer versions.Unlock()
	s := versions.parsed[v]
	if s == nil {
		var err error
		if s, err = read(filepath.Join("docs", "v"+v+".yaml")); err != nil {
			t.Fatal(err)
		}
		if versions.parsed == nil {
			versions.parsed = map[string]*Spec{}
		}
		versions.parsed[v] = s
	}
	return s
}

// Operations lists every operation of the description as "GET /containers/json".
func (s *Spec) Operations() []string {
	var all []string
	for path, item := range asMap(s.root["paths"]) {
		for method := range asMap(item) {
			if method != "parameters" {
				all = append(all, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(all)
	return all
}

// Statuses are those that the description has for an operation.
func (s *Spec) Statuses(method, path string) []string {
	var all []string
	switch m := dig(s.root, "paths", path, strings.ToLower(method), "responses").(type) {
	case map[string]any:
		for k := range m {
			all = append(all, k)
		}
	case map[any]any:
		for k := range m {
			all = append(all, fmt.Sprint(k))
		}
	}
	slices.Sort(all)
	return all
}

// Load reads the description of the module that go.mod names.
func Load(t testing.TB) *Spec {
	t.Helper()
	s, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Parse reads a swagger 2.0 description.
func Parse(data []byte) (*Spec, error) {
	s := &Spec{}
	if err := yaml.Unmarshal(data, &s.root); err != nil {
		return nil, err
	}
	if s.root["paths"] == nil || s.root["definitions"] == nil {
		return nil, fmt.Errorf("the description has no paths or no definitions")
	}
	return s, nil
}

// Response checks one JSON answer and fails the test for each difference. except
// names places where the difference is known and wanted, e.g. "$.Runtimes.runc".
func Response(t testing.TB, method, path string, status int, body []byte, except ...string) {
	t.Helper()
	for _, err := range Load(t).Response(method, path, status, body) {
		if !slices.ContainsFunc(except, func(e string) bool { return strings.HasPrefix(err.Error(), e+":") }) {
			t.Errorf("%s %s (%d): %v", method, path, status, err)
		}
	}
}

// Stream checks an answer of one JSON value after the other, e.g. GET /events.
func Stream(t testing.TB, method, path string, status int, body []byte, except ...string) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(body))
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			t.Errorf("%s %s: %v", method, path, err)
			return
		}
		Response(t, method, path, status, raw, except...)
	}
}

// Definition checks a JSON value against a named definition, e.g. "ContainerSummary".
func Definition(t testing.TB, name string, body []byte) {
	t.Helper()
	s := Load(t)
	v, err := decode(body)
	if err != nil {
		t.Error(err)
		return
	}
	for _, err := range s.value(map[string]any{"$ref": "#/definitions/" + name}, v, "$") {
		t.Errorf("%s: %v", name, err)
	}
}

// Response lists what is wrong with an answer.
func (s *Spec) Response(method, path string, status int, body []byte) []error {
	op := dig(s.root, "paths", path, strings.ToLower(method))
	if op == nil {
		return []error{fmt.Errorf("$: the description has no %s %s", method, path)}
	}
	res := dig(op, "responses", fmt.Sprint(status))
	if res == nil {
		return []error{fmt.Errorf("$: the description has no status %d here", status)}
	}
	schema, _ := dig(res, "schema").(map[string]any)
	if schema == nil {
		if len(bytes.TrimSpace(body)) > 0 {
			return []error{fmt.Errorf("$: the description has no body here, the answer is %.100q", body)}
		}
		return nil
	}
	v, err := decode(body)
	if err != nil {
		return []error{fmt.Errorf("$: %w: %.100q", err, body)}
	}
	return s.value(schema, v, "$")
}

func decode(body []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, fmt.Errorf("there is more after the JSON value")
	}
	return v, nil
}

// dig walks down maps; keys of responses may be numbers in YAML.
func dig(v any, keys ...string) any {
	for _, k := range keys {
		switch m := v.(type) {
		case map[string]any:
			v = m[k]
		case map[any]any:
			v = nil
			for mk, mv := range m {
				if fmt.Sprint(mk) == k {
					v = mv
				}
			}
		default:
			return nil
		}
	}
	return v
}

// resolve follows references and merges allOf into one object schema.
func (s *Spec) resolve(schema map[string]any) map[string]any {
	nullable := schema["x-nullable"] == true
	for range 32 {
		ref, ok := schema["$ref"].(string)
		if !ok {
			break
		}
		next, _ := dig(s.root, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(map[string]any)
		if next == nil {
			return map[string]any{"x-missing": ref}
		}
		schema = next
		nullable = nullable || schema["x-nullable"] == true
	}
	merged := map[string]any{}
	for k, v := range schema {
		merged[k] = v
	}
	merged["x-nullable"] = nullable
	parts, ok := schema["allOf"].([]any)
	if !ok {
		return merged
	}
	props := map[string]any{}
	var required []any
	for _, p := range parts {
		part, _ := p.(map[string]any)
		part = s.resolve(part)
		for k, v := range asMap(part["properties"]) {
			props[k] = v
		}
		if r, ok := part["required"].([]any); ok {
			required = append(required, r...)
		}
		if merged["type"] == nil {
			merged["type"] = part["type"]
		}
	}
	for k, v := range asMap(schema["properties"]) {
		props[k] = v
	}
	if len(props) > 0 {
		merged["properties"], merged["required"] = props, required
	}
	delete(merged, "allOf")
	return merged
}

func asMap(v any) map[string]any { m, _ := v.(map[string]any); return m }

// value checks v, found at place at.
func (s *Spec) value(schema map[string]any, v any, at string) []error {
	schema = s.resolve(schema)
	if ref, ok := schema["x-missing"]; ok {
		return []error{fmt.Errorf("%s: the description refers to %v, which it does not have", at, ref)}
	}
	kind, _ := schema["type"].(string)
	if kind == "" && schema["properties"] != nil {
		kind = "object"
	}
	if v == nil {
		// The engine's Go types give null for empty lists and maps; clients know.
		if kind == "array" || kind == "object" || kind == "" || schema["x-nullable"] == true {
			return nil
		}
		return []error{fmt.Errorf("%s: null instead of %s", at, kind)}
	}
	switch kind {
	case "object":
		return s.object(schema, v, at)
	case "array":
		list, ok := v.([]any)
		if !ok {
			return wrong(at, kind, v)
		}
		var errs []error
		if items := asMap(schema["items"]); items != nil {
			for i, x := range list {
				errs = append(errs, s.value(items, x, fmt.Sprintf("%s[%d]", at, i))...)
			}
		}
		return errs
	}
	return scalar(schema, kind, v, at)
}

func (s *Spec) object(schema map[string]any, v any, at string) []error {
	m, ok := v.(map[string]any)
	if !ok {
		return wrong(at, "object", v)
	}
	props, more := asMap(schema["properties"]), schema["additionalProperties"]
	var errs []error
	if req, ok := schema["required"].([]any); ok {
		for _, r := range req {
			if _, there := m[fmt.Sprint(r)]; !there {
				errs = append(errs, fmt.Errorf("%s: the required field %v is missing", at, r))
			}
		}
	}
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		place := at + "." + k
		if p := asMap(props[k]); p != nil {
			errs = append(errs, s.value(p, m[k], place)...)
		} else if ap := asMap(more); ap != nil {
			errs = append(errs, s.value(ap, m[k], place)...)
		} else if len(props) > 0 && more != true {
			errs = append(errs, fmt.Errorf("%s: the description has no such field", place))
		}
	}
	return errs
}

func scalar(schema map[string]any, kind string, v any, at string) []error {
	switch kind {
	case "string":
		text, ok := v.(string)
		if !ok {
			return wrong(at, kind, v)
		}
		if enum, ok := schema["enum"].([]any); ok && !slices.ContainsFunc(enum, func(e any) bool { return fmt.Sprint(e) == text }) {
			return []error{fmt.Errorf("%s: %q is not among %v", at, text, enum)}
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return wrong(at, kind, v)
		}
	case "integer", "number":
		n, ok := v.(json.Number)
		if !ok {
			return wrong(at, kind, v)
		}
		if f, err := n.Float64(); kind == "integer" && (err != nil || f != math.Trunc(f)) {
			return wrong(at, kind, v)
		}
	}
	return nil
}

func wrong(at, want string, v any) []error {
	return []error{fmt.Errorf("%s: %T (%.60v) instead of %s", at, v, v, want)}
}
