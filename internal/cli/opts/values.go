// Package opts has the kinds of flag values docker's command line knows, with their checks.
package opts

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"strings"

	"github.com/docker/go-units"
)

// List collects every use of a flag; Check may refuse or rewrite a value.
type List struct {
	Values []string
	Check  func(string) (string, error)
}

// Set adds a value.
func (l *List) Set(v string) error {
	if l.Check != nil {
		var err error
		if v, err = l.Check(v); err != nil {
			return err
		}
	}
	l.Values = append(l.Values, v)
	return nil
}

// Type names the value in help texts.
func (l *List) Type() string { return "list" }

func (l *List) String() string {
	if len(l.Values) == 0 {
		return ""
	}
	return fmt.Sprintf("%v", l.Values)
}

// Unique is the values without repetitions, in order.
func (l *List) Unique() []string {
	seen := map[string]bool{}
	var out []string
	for _, v := range l.Values {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

// Map collects key=value; a key without value stays empty.
type Map struct {
	Values map[string]string
	Check  func(string) (string, error)
}

// Set adds an entry.
func (m *Map) Set(v string) error {
	if m.Check != nil {
		var err error
		if v, err = m.Check(v); err != nil {
			return err
		}
	}
	if m.Values == nil {
		m.Values = map[string]string{}
	}
	k, val, _ := strings.Cut(v, "=")
	m.Values[k] = val
	return nil
}

// Type names the value in help texts.
func (m *Map) Type() string { return "map" }

func (m *Map) String() string { return fmt.Sprintf("%v", m.Values) }

// Bytes is a size such as 64m.
type Bytes int64

// Set reads a size.
func (b *Bytes) Set(v string) error {
	n, err := units.RAMInBytes(v)
	*b = Bytes(n)
	return err
}

// Type names the value in help texts.
func (b *Bytes) Type() string { return "bytes" }

func (b *Bytes) String() string {
	if *b == 0 {
		return "0"
	}
	return units.BytesSize(float64(*b))
}

// SwapBytes is Bytes, or -1 for no limit.
type SwapBytes int64

// Set reads a size or -1.
func (b *SwapBytes) Set(v string) error {
	if v == "-1" {
		*b = -1
		return nil
	}
	n, err := units.RAMInBytes(v)
	*b = SwapBytes(n)
	return err
}

// Type names the value in help texts.
func (b *SwapBytes) Type() string { return "bytes" }

func (b *SwapBytes) String() string {
	if *b == -1 {
		return "-1"
	}
	x := Bytes(*b)
	return x.String()
}

// NanoCPUs is a number of CPUs in units of 10⁻⁹.
type NanoCPUs int64

// Set reads a decimal number.
func (n *NanoCPUs) Set(v string) error {
	r, ok := new(big.Rat).SetString(v)
	if !ok {
		return fmt.Errorf("failed to parse %v as a rational number", v)
	}
	nano := r.Mul(r, big.NewRat(1e9, 1))
	if !nano.IsInt() {
		return errors.New("value is too precise")
	}
	*n = NanoCPUs(nano.Num().Int64())
	return nil
}

// Type names the value in help texts.
func (n *NanoCPUs) Type() string { return "decimal" }

func (n *NanoCPUs) String() string {
	if *n == 0 {
		return ""
	}
	return big.NewRat(int64(*n), 1e9).FloatString(3)
}

// Filter collects --filter key=value.
type Filter struct{ m map[string]map[string]bool }

// Set adds a condition.
func (f *Filter) Set(v string) error {
	if v == "" {
		return nil
	}
	k, val, ok := strings.Cut(v, "=")
	if !ok {
		return errors.New("bad format of filter (expected name=value)")
	}
	f.Add(strings.ToLower(strings.TrimSpace(k)), strings.TrimSpace(val))
	return nil
}

// Add adds a condition already taken apart.
func (f *Filter) Add(k, v string) {
	if f.m == nil {
		f.m = map[string]map[string]bool{}
	}
	if f.m[k] == nil {
		f.m[k] = map[string]bool{}
	}
	f.m[k][v] = true
}

// Has says whether a key is used.
func (f *Filter) Has(k string) bool { return len(f.m[k]) > 0 }

// Get lists a key's values.
func (f *Filter) Get(k string) []string {
	var out []string
	for v := range f.m[k] {
		out = append(out, v)
	}
	return out
}

// Keys lists the keys used.
func (f *Filter) Keys() []string {
	var out []string
	for k := range f.m {
		out = append(out, k)
	}
	return out
}

// Type names the value in help texts.
func (f *Filter) Type() string { return "filter" }

func (f *Filter) String() string { return "" }

// Map is the wire form's content, nil when there is no condition.
func (f *Filter) Map() map[string]map[string]bool { return f.m }

// CheckEnv completes NAME without value from the environment of this process.
func CheckEnv(v string) (string, error) {
	k, _, has := strings.Cut(v, "=")
	if k == "" {
		return "", errors.New("invalid environment variable: " + v)
	}
	if has {
		return v, nil
	}
	if val, ok := os.LookupEnv(k); ok {
		return v + "=" + val, nil
	}
	return v, nil
}

// CheckLabel refuses a label without a name.
func CheckLabel(v string) (string, error) {
	k, _, _ := strings.Cut(v, "=")
	if strings.TrimLeft(k, " \t") == "" && k != "" || k == "" {
		return "", fmt.Errorf("invalid label '%s': empty name", v)
	}
	if strings.ContainsAny(k, " \t") {
		return "", fmt.Errorf("label '%s' contains whitespaces", k)
	}
	return v, nil
}

// ToMap makes a map of KEY=VALUE words.
func ToMap(words []string) map[string]string {
	m := make(map[string]string, len(words))
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		m[k] = v
	}
	return m
}

// Query is the filters parameter; defaults are conditions of the configuration, which explicit ones of the same
// kind replace (label and label!).
func (f Filter) Query(defaults []string) url.Values {
	g := Filter{}
	for k, vs := range f.m {
		for v := range vs {
			g.Add(k, v)
		}
	}
	for _, d := range defaults {
		k, v, ok := strings.Cut(d, "=")
		if !ok || (k == "label" || k == "label!") && (f.m["label"][v] || f.m["label!"][v]) {
			continue
		}
		g.Add(k, v)
	}
	if len(g.m) == 0 {
		return url.Values{}
	}
	b, err := json.Marshal(g.m)
	if err != nil {
		return url.Values{}
	}
	return url.Values{"filters": {string(b)}}
}
