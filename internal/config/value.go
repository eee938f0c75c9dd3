package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// bytesField is a size: "64MiB" in a flag, a number or such a text in the file.
type bytesField struct{ p *int64 }

// single is a list of which the file's older key gives one element.
type single struct{ p *[]string }

// value is an option's place in the configuration. It is a pflag.Value.
type value struct {
	opt *Option
	ptr any
	set bool // by a flag
}

func newValue(o *Option, c *Config) *value {
	v := &value{opt: o}
	if o.field != nil {
		v.ptr = o.field(c)
		return v
	}
	switch o.Type { // nobody reads it: it is checked and kept for messages
	case "bool":
		v.ptr = new(bool)
	case "int":
		v.ptr = new(int)
	case "ip":
		v.ptr = new(netip.Addr)
	case "map":
		v.ptr = new(map[string]string)
	case "list", "mapmap", "runtime", "pool-options":
		v.ptr = new([]string)
	default:
		v.ptr = new(string)
	}
	return v
}

// Type implements pflag.Value.
func (v *value) Type() string { return v.opt.Type }

// IsBoolFlag lets "--debug" stand for "--debug=true".
func (v *value) IsBoolFlag() bool { return v.opt.Type == "bool" }

// String implements pflag.Value; lists and maps that are empty give "".
func (v *value) String() string {
	switch p := v.ptr.(type) {
	case *string:
		return *p
	case *bool:
		return strconv.FormatBool(*p)
	case *int:
		if *p < 0 {
			return ""
		}
		return strconv.Itoa(*p)
	case bytesField:
		return units.BytesSize(float64(*p.p))
	case *[]string:
		return fmt.Sprint(*p)
	case *map[string]string:
		return fmt.Sprint(*p)
	case *netip.Addr:
		if !p.IsValid() {
			return ""
		}
		return p.String()
	case *map[string]Ulimit:
		return fmt.Sprint(slices.Sorted(maps.Keys(*p)))
	case *[]Pool:
		if len(*p) > 0 {
			return fmt.Sprint(*p)
		}
	case *map[string]map[string]string:
		return fmt.Sprint(*p)
	}
	return ""
}

// Set implements pflag.Value.
func (v *value) Set(s string) error {
	v.set = true
	switch p := v.ptr.(type) {
	case *string:
		*p = s
	case *bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return invalid("%q is neither true nor false", s)
		}
		*p = b
	case *int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return invalid("%q is not a whole number", s)
		}
		*p = n
	case bytesField:
		n, err := units.RAMInBytes(s)
		if err != nil {
			return err
		}
		*p.p = n
	case *[]string:
		*p = append(*p, s)
	case *map[string]string:
		k, val, _ := cut(s)
		if *p == nil {
			*p = map[string]string{}
		}
		(*p)[k] = val
	case *netip.Addr:
		a, err := netip.ParseAddr(s)
		if err != nil {
			return invalid("%q is not an ip address", s)
		}
		*p = a
	case *map[string]Ulimit:
		u, err := units.ParseUlimit(s)
		if err != nil {
			return err
		}
		if *p == nil {
			*p = map[string]Ulimit{}
		}
		(*p)[u.Name] = Ulimit{Name: u.Name, Hard: u.Hard, Soft: u.Soft}
	case *[]Pool:
		pool, err := parsePool(s)
		if err != nil {
			return err
		}
		*p = append(*p, pool)
	case *map[string]map[string]string:
		driver, rest, _ := cut(s)
		k, val, ok := cut(rest)
		if driver == "" || k == "" || !ok {
			return invalid("%q is not driver=option=value", s)
		}
		if *p == nil {
			*p = map[string]map[string]string{}
		}
		if (*p)[driver] == nil {
			(*p)[driver] = map[string]string{}
		}
		(*p)[driver][k] = val
	default:
		return invalid("this option cannot be set by a flag")
	}
	return nil
}

// setJSON takes the value from daemon.json. It replaces; it does not append.
func (v *value) setJSON(raw json.RawMessage) error {
	var err error
	switch p := v.ptr.(type) {
	case bytesField:
		var n json.Number
		if err := json.Unmarshal(raw, &n); err == nil {
			*p.p, err = n.Int64()
			if err == nil {
				return nil
			}
		}
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		*p.p, err = units.RAMInBytes(s)
		return err
	case single:
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		*p.p = []string{s}
		return nil
	case *map[string]string:
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		*p = map[string]string{}
		for k, x := range m {
			switch x.(type) {
			case string, bool, float64:
				(*p)[k] = fmt.Sprint(x)
			default:
				return invalid("the value of %q is neither text nor number nor truth value", k)
			}
		}
		return nil
	case *netip.Addr:
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		*p, err = netip.ParseAddr(s)
		return err
	}
	if v.opt.field == nil && v.opt.Type != "bool" && v.opt.Type != "int" {
		return nil // any shape: it is refused or noted, not used
	}
	return json.Unmarshal(raw, v.ptr)
}

// parsePool reads "base=10.10.0.0/16,size=24".
func parsePool(s string) (p Pool, err error) {
	for _, one := range strings.Split(s, ",") {
		k, v, _ := cut(one)
		switch k {
		case "base":
			p.Base = v
		case "size":
			if p.Size, err = strconv.Atoi(v); err != nil {
				return p, invalid("size %q is not a whole number", v)
			}
		default:
			return p, invalid("unexpected key %q: base=10.10.0.0/16,size=24 is needed", k)
		}
	}
	return p, p.check()
}

// check tells what is wrong with a pool.
func (p Pool) check() error {
	base, err := netip.ParsePrefix(p.Base)
	switch {
	case err != nil:
		return invalid("invalid base pool %q: a network is needed, such as 10.10.0.0/16", p.Base)
	case base != base.Masked():
		return invalid("invalid base pool %q: it should be %s", p.Base, base.Masked())
	case p.Size < base.Bits() || p.Size > base.Addr().BitLen()-2:
		return invalid("invalid pool size %d of %s: a prefix length from %d to %d is needed", p.Size, p.Base, base.Bits(), base.Addr().BitLen()-2)
	}
	return nil
}

func cut(s string) (k, v string, ok bool) {
	k, v, ok = strings.Cut(s, "=")
	return strings.TrimSpace(k), v, ok
}
