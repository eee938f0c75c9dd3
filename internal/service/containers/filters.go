package containers

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/service/containers/mounts"
)

// listKeys are the filters of GET /containers/json.
var listKeys = []string{"ancestor", "annotation", "before", "exited", "expose", "health", "id", "is-task", "isolation",
	"label", "name", "network", "publish", "since", "status", "volume"}

// selection is a list's filters, checked and made ready.
type selection struct {
	args          filters.Args
	exited        []int
	publish       []portRange
	expose        []portRange
	before, since *Container
	images        map[string]bool // IDs of ancestors
	never         bool            // no container can match
	all           bool            // a filter asks for stopped ones
}

type portRange struct {
	proto    string
	from, to uint16
}

func (c *querier) selection(args filters.Args, resolve func(ref string) (id string, ok bool)) (*selection, error) {
	if err := args.Check(listKeys...); err != nil {
		return nil, err
	}
	s := &selection{args: args, all: args.Has("status") || args.Has("exited") || args.Has("before") || args.Has("since")}
	// Docker shows stopped ones for these filters.
	for _, v := range args["status"] {
		if err := container.ValidateContainerState(container.ContainerState(v)); err != nil {
			return nil, classed.Invalid("invalid filter 'status=%s'", v)
		}
	}
	for _, v := range args["health"] {
		if err := container.ValidateHealthStatus(container.HealthStatus(v)); err != nil {
			return nil, classed.Invalid("unrecognised filter value for health: %s", v)
		}
	}
	task, err := args.Bool("is-task", false)
	if err != nil {
		return nil, err
	}
	s.never = task
	for _, v := range args["exited"] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, classed.Invalid("invalid filter 'exited=%s'", v)
		}
		s.exited = append(s.exited, n)
	}
	if s.publish, err = portRanges("publish", args["publish"]); err != nil {
		return nil, err
	}
	if s.expose, err = portRanges("expose", args["expose"]); err != nil {
		return nil, err
	}
	if s.before, err = c.edge(args["before"]); err != nil {
		return nil, err
	}
	if s.since, err = c.edge(args["since"]); err != nil {
		return nil, err
	}
	if args.Has("ancestor") {
		s.images = map[string]bool{}
		for _, ref := range args["ancestor"] {
			if id, ok := resolve(ref); ok {
				s.images[id] = true
			}
		}
	}
	return s, nil
}

func (c *querier) edge(refs []string) (*Container, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	e, err := c.reg.get(refs[len(refs)-1])
	if err != nil {
		return nil, err
	}
	return e.snapshot(), nil
}

func portRanges(key string, values []string) ([]portRange, error) {
	var out []portRange
	for _, v := range values {
		ports, proto, _ := strings.Cut(v, "/")
		if proto == "" {
			proto = "tcp"
		}
		a, b, isRange := strings.Cut(ports, "-")
		from, err := strconv.ParseUint(a, 10, 16)
		to := from
		if err == nil && isRange {
			to, err = strconv.ParseUint(b, 10, 16)
		}
		if err != nil || to < from {
			return nil, classed.Invalid("invalid filter '%s=%s': a port or a range of ports is needed", key, v)
		}
		out = append(out, portRange{strings.ToLower(proto), uint16(from), uint16(to)})
	}
	return out, nil
}

func inRanges(rs []portRange, port uint16, proto string) bool {
	return slices.ContainsFunc(rs, func(r portRange) bool { return r.proto == proto && r.from <= port && port <= r.to })
}

// match tells whether a container is among those asked for. The filter "isolation" is Windows's: here every container matches it.
func (s *selection) match(rec *Container, health container.HealthStatus) bool {
	a := s.args
	switch {
	case s.never,
		!a.Match("name", "/"+rec.Name) && !a.Match("name", rec.Name),
		a.Has("id") && !slices.ContainsFunc(a["id"], func(p string) bool { return strings.HasPrefix(rec.ID, p) }),
		!a.Labels("label", rec.Config.Labels), !a.Labels("annotation", rec.HostConfig.Annotations),
		!a.Exact("status", string(rec.State.Status)),
		!a.Exact("health", string(health)),
		len(s.exited) > 0 && (rec.State.Status.Running() || rec.State.Started.IsZero() || !slices.Contains(s.exited, rec.State.ExitCode)),
		s.before != nil && !rec.Created.Before(s.before.Created),
		s.since != nil && !rec.Created.After(s.since.Created),
		s.images != nil && !s.images[rec.Image.ID]:
		return false
	}
	return s.matchMounts(rec) && s.matchNetworks(rec) && s.matchPorts(rec)
}

func (s *selection) matchMounts(rec *Container) bool {
	wanted := s.args["volume"]
	return len(wanted) == 0 || slices.ContainsFunc(rec.Mounts, func(m mounts.Point) bool {
		return m.Name != "" && slices.Contains(wanted, m.Name) ||
			slices.ContainsFunc(wanted, func(w string) bool { return w == m.Source || path.Clean(w) == m.Destination })
	})
}

func (s *selection) matchNetworks(rec *Container) bool {
	wanted := s.args["network"]
	if len(wanted) == 0 {
		return true
	}
	for _, w := range wanted {
		if _, ok := rec.Networks[w]; ok {
			return true
		}
		for _, e := range rec.Sandbox.Endpoints {
			if e.NetworkName == w || w != "" && strings.HasPrefix(e.NetworkID, w) {
				return true
			}
		}
	}
	return false
}

// matchPorts looks at the ports in use, so at running containers: publish means
// ports of the host, expose ports of the container, published or not.
func (s *selection) matchPorts(rec *Container) bool {
	if len(s.publish) == 0 && len(s.expose) == 0 {
		return true
	}
	published, exposed := len(s.publish) == 0, len(s.expose) == 0
	for _, p := range portList(rec) {
		published = published || p.PublicPort != 0 && inRanges(s.publish, p.PublicPort, p.Type)
		exposed = exposed || inRanges(s.expose, p.PrivatePort, p.Type)
	}
	return published && exposed
}
