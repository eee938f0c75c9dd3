package server

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

// table finds the route of a path. Among several that match, the one whose
// first difference is the more literal wins: "json" before "{id}" before "{name*}".
type table struct {
	byFirst map[string][]*route // method + " " + first segment
}

type route struct {
	httpapi.Route
	segs []seg
}

type segKind uint8

const (
	literal segKind = iota
	one             // exactly one segment, or "/name" with its leading slash
	many            // one or more segments
)

type seg struct {
	kind segKind
	text string // the literal, or the variable's name
}

func newTable(routers []httpapi.Router) (*table, error) {
	t := &table{byFirst: map[string][]*route{}}
	for _, g := range routers {
		for _, r := range g.Routes() {
			c, err := compile(r)
			if err != nil {
				return nil, err
			}
			k := r.Method + " " + c.segs[0].text
			for _, other := range t.byFirst[k] {
				if samePattern(other.segs, c.segs) {
					return nil, fmt.Errorf("two routes for %s %s", r.Method, r.Path)
				}
			}
			t.byFirst[k] = append(t.byFirst[k], c)
		}
	}
	for _, rs := range t.byFirst {
		slices.SortStableFunc(rs, func(a, b *route) int { return compareSegs(a.segs, b.segs) })
	}
	return t, nil
}

func samePattern(a, b []seg) bool { return len(a) == len(b) && compareSegs(a, b) == 0 }

func compareSegs(a, b []seg) int {
	for i := range min(len(a), len(b)) {
		if c := cmp.Compare(a[i].kind, b[i].kind); c != 0 {
			return c
		}
		if a[i].kind == literal {
			if c := strings.Compare(a[i].text, b[i].text); c != 0 {
				return c
			}
		}
	}
	// A longer pattern says more: "/images/{name*}/json" before "/images/{name*}".
	return cmp.Compare(len(b), len(a))
}

func compile(r httpapi.Route) (*route, error) {
	c := &route{Route: r}
	manys := 0
	for i, s := range strings.Split(strings.TrimPrefix(r.Path, "/"), "/") {
		name, isVar := strings.CutPrefix(s, "{")
		switch {
		case !isVar:
			c.segs = append(c.segs, seg{literal, s})
		case strings.HasSuffix(name, "*}"):
			c.segs = append(c.segs, seg{many, strings.TrimSuffix(name, "*}")})
			manys++
		case strings.HasSuffix(name, "}"):
			c.segs = append(c.segs, seg{one, strings.TrimSuffix(name, "}")})
		default:
			return nil, fmt.Errorf("route %s: bad variable %q", r.Path, s)
		}
		if i == 0 && isVar {
			return nil, fmt.Errorf("route %s: the first segment must be literal", r.Path)
		}
	}
	if !strings.HasPrefix(r.Path, "/") || manys > 1 || r.Handler == nil {
		return nil, fmt.Errorf("route %s %s: a leading slash, a handler and at most one {name*} are needed", r.Method, r.Path)
	}
	return c, nil
}

// find gives the route and its variables. path has no version prefix.
func (t *table) find(method, path string) (*route, httpapi.Vars) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(parts) > 1 && parts[len(parts)-1] == "" {
		return nil, nil
	}
	for _, r := range t.byFirst[method+" "+parts[0]] {
		if vars, ok := match(r.segs, parts, nil); ok {
			return r, vars
		}
	}
	return nil, nil
}

func match(segs []seg, parts []string, vars httpapi.Vars) (httpapi.Vars, bool) {
	for i, s := range segs {
		switch s.kind {
		case literal:
			if len(parts) == 0 || parts[0] != s.text {
				return nil, false
			}
			parts = parts[1:]
		case one:
			n := 1
			if len(parts) > 1 && parts[0] == "" {
				n = 2 // "/containers//name/json": names may be given with their slash
			}
			if len(parts) < n || parts[n-1] == "" {
				return nil, false
			}
			vars = with(vars, s.text, strings.Join(parts[:n], "/"))
			parts = parts[n:]
		case many:
			n := len(parts) - (len(segs) - i - 1)
			if n < 1 {
				return nil, false
			}
			name := strings.Join(parts[:n], "/")
			if strings.Trim(name, "/") == "" {
				return nil, false
			}
			vars = with(vars, s.text, name)
			parts = parts[n:]
		}
	}
	return vars, len(parts) == 0
}

func with(v httpapi.Vars, k, val string) httpapi.Vars {
	if v == nil {
		v = httpapi.Vars{}
	}
	v[k] = val
	return v
}
