package show

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

// Header is the titles of ps's columns.
var Header = map[string]string{"ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED",
	"Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE", "Labels": "LABELS", "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES",
	"Networks": "NETWORKS", "Platform": "PLATFORM", "HealthStatus": "HEALTH STATUS", "Label": "LABEL"}

// Row is one container in a list.
type Row struct {
	format.Row
	s     *container.Summary
	trunc bool
}

// ID is the container's id.
func (r *Row) ID() string {
	if r.trunc {
		return format.ShortID(r.s.ID)
	}
	return r.s.ID
}

// Names lists the names, without links of others when shortened.
func (r *Row) Names() string {
	var out []string
	for _, n := range r.s.Names {
		n = strings.TrimPrefix(n, "/")
		if r.trunc && strings.Contains(n, "/") {
			continue
		}
		out = append(out, n)
	}
	return strings.Join(out, ",")
}

// Image is the image's name, or its id when it lost its name.
func (r *Row) Image() string {
	if r.s.Image == "" {
		return "<no image>"
	}
	if !r.trunc {
		return r.s.Image
	}
	id, short := format.ShortID(r.s.ImageID), format.ShortID(r.s.Image)
	if id == short {
		return id
	}
	n, err := ref.Parse(r.s.Image)
	if err != nil || n.Digest == "" || n.Tag == "" {
		if err == nil && n.Digest != "" {
			return n.FamiliarName()
		}
		return r.s.Image
	}
	n.Digest = ""
	return n.Familiar()
}

// Command is the command line in quotes.
func (r *Row) Command() string {
	c := r.s.Command
	if r.trunc {
		c = format.Ellipsis(c, 20)
	}
	return strconv.Quote(c)
}

// CreatedAt is the time of creation.
func (r *Row) CreatedAt() string { return time.Unix(r.s.Created, 0).String() }

// RunningFor says how long ago it was created.
func (r *Row) RunningFor() string {
	return units.HumanDuration(time.Now().UTC().Sub(time.Unix(r.s.Created, 0))) + " ago"
}

// Platform is empty: lists do not carry it.
func (r *Row) Platform() string {
	d := r.s.ImageManifestDescriptor
	if d == nil || d.Platform == nil {
		return ""
	}
	p := d.Platform.OS + "/" + d.Platform.Architecture
	if d.Platform.Variant != "" {
		p += "/" + d.Platform.Variant
	}
	return p
}

// Ports is the published and exposed ports.
func (r *Row) Ports() string { return DisplayPorts(r.s.Ports) }

// State is the state in one word.
func (r *Row) State() string { return string(r.s.State) }

// Status is the state in words.
func (r *Row) Status() string { return r.s.Status }

// HealthStatus is the result of health checks.
func (r *Row) HealthStatus() string {
	if r.s.Health == nil {
		return ""
	}
	return string(r.s.Health.Status)
}

// Size is what the container wrote, and how large it is with its image.
func (r *Row) Size() string {
	rw := units.HumanSizeWithPrecision(float64(r.s.SizeRw), 3)
	if r.s.SizeRootFs > 0 {
		return fmt.Sprintf("%s (virtual %s)", rw, units.HumanSizeWithPrecision(float64(r.s.SizeRootFs), 3))
	}
	return rw
}

// Labels lists the labels.
func (r *Row) Labels() string { return format.Labels(r.s.Labels) }

// Label is one label's value.
func (r *Row) Label(name string) string { return r.s.Labels[name] }

// Mounts lists volumes' names and mounted paths.
func (r *Row) Mounts() string {
	var out []string
	for _, m := range r.s.Mounts {
		n := m.Name
		if n == "" {
			n = m.Source
		}
		if r.trunc {
			n = format.Ellipsis(n, 15)
		}
		out = append(out, n)
	}
	return strings.Join(out, ",")
}

// LocalVolumes counts volumes of the local driver.
func (r *Row) LocalVolumes() string {
	n := 0
	for _, m := range r.s.Mounts {
		if m.Driver == "local" {
			n++
		}
	}
	return strconv.Itoa(n)
}

// Networks lists the networks' names.
func (r *Row) Networks() string {
	if r.s.NetworkSettings == nil {
		return ""
	}
	var out []string
	for n := range r.s.NetworkSettings.Networks {
		out = append(out, n)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

type portGroup struct{ first, last uint16 }

// DisplayPorts writes ports as docker does: neighbours of one address as ranges, published ones in front.
func DisplayPorts(ports []container.PortSummary) string {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(x, y container.PortSummary) int {
		switch {
		case x.PrivatePort != y.PrivatePort:
			return int(x.PrivatePort) - int(y.PrivatePort)
		case x.IP != y.IP:
			return x.IP.Compare(y.IP)
		case x.PublicPort != y.PublicPort:
			return int(x.PublicPort) - int(y.PublicPort)
		}
		return strings.Compare(x.Type, y.Type)
	})
	groups, keys := map[string]*portGroup{}, []string{}
	var out, mapped []string
	for _, p := range ports {
		key := p.Type
		if p.IP.IsValid() {
			if p.PublicPort != p.PrivatePort {
				mapped = append(mapped, fmt.Sprintf("%s:%d->%d/%s", bracket(p), p.PublicPort, p.PrivatePort, p.Type))
				continue
			}
			key = p.IP.String() + "/" + p.Type
		}
		g := groups[key]
		switch {
		case g == nil:
			groups[key] = &portGroup{p.PrivatePort, p.PrivatePort}
			keys = append(keys, key)
		case p.PrivatePort == g.last:
		case p.PrivatePort == g.last+1:
			g.last = p.PrivatePort
		default:
			out = append(out, groupText(key, *g))
			*g = portGroup{p.PrivatePort, p.PrivatePort}
		}
	}
	for _, k := range keys {
		out = append(out, groupText(k, *groups[k]))
	}
	return strings.Join(append(out, mapped...), ", ")
}

func bracket(p container.PortSummary) string {
	if p.IP.Is6() {
		return "[" + p.IP.String() + "]"
	}
	return p.IP.String()
}

func groupText(key string, g portGroup) string {
	ip, proto, has := strings.Cut(key, "/")
	if !has {
		ip, proto = "", key
	}
	n := strconv.Itoa(int(g.first))
	if g.first != g.last {
		n += "-" + strconv.Itoa(int(g.last))
	}
	if ip != "" {
		if strings.Contains(ip, ":") {
			ip = "[" + ip + "]"
		}
		n = ip + ":" + n + "->" + n
	}
	return n + "/" + proto
}
