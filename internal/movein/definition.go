package movein

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/gantry-engine/gantry/internal/dockerroot"
)

// definition turns what Docker keeps of a container into a request that makes it.
type definition struct {
	c          *dockerroot.Container
	containers []*dockerroot.Container
	networks   []dockerroot.Network
	body, host map[string]any
	needs      []string // networks that have to be here
}

func text(v any) string {
	raw, _ := v.(json.RawMessage)
	var s string
	_ = json.Unmarshal(raw, &s) // what is no text names nothing
	return s
}

func decode(v any, into any) error {
	raw, ok := v.(json.RawMessage)
	if !ok || len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// container gives the name of a container by its ID: IDs are others here.
func (d *definition) container(id string) string {
	for _, c := range d.containers {
		if c.ID == id || len(id) >= 12 && strings.HasPrefix(c.ID, id) {
			return c.Name
		}
	}
	return id
}

// network gives the name of a network by its ID.
func (d *definition) network(id string) string {
	for _, n := range d.networks {
		if n.ID == id {
			return n.Name
		}
	}
	return id
}

// others rewrites what refers to other containers and networks by ID.
func (d *definition) others() error {
	for _, k := range []string{"NetworkMode", "IpcMode", "PidMode"} {
		mode := text(d.host[k])
		if id, ok := strings.CutPrefix(mode, "container:"); ok {
			d.host[k] = "container:" + d.container(id)
		} else if k == "NetworkMode" && mode != "" {
			d.host[k] = d.network(mode)
		}
	}
	var from []string
	if err := decode(d.host["VolumesFrom"], &from); err != nil {
		return fmt.Errorf("its VolumesFrom: %w", err)
	}
	for i, f := range from {
		id, mode, found := strings.Cut(f, ":")
		if from[i] = d.container(id); found {
			from[i] += ":" + mode
		}
	}
	if len(from) > 0 {
		d.host["VolumesFrom"] = from
	}
	return nil
}

// volumes binds the volumes that the container has without having been told which: a new container would get new ones.
func (d *definition) volumes() error {
	var binds []string
	if err := decode(d.host["Binds"], &binds); err != nil {
		return fmt.Errorf("its Binds: %w", err)
	}
	var mounts []map[string]any
	if err := decode(d.host["Mounts"], &mounts); err != nil {
		return fmt.Errorf("its Mounts: %w", err)
	}
	told := map[string]bool{}
	for _, b := range binds {
		if p := strings.Split(b, ":"); len(p) > 1 {
			told[p[1]] = true
		}
	}
	for _, m := range mounts {
		target, _ := m["Target"].(string)
		source, _ := m["Source"].(string)
		if m["Type"] == "volume" && source == "" {
			for _, v := range d.c.Mounts {
				if v.Destination == target {
					m["Source"] = v.Name
				}
			}
		}
		told[target] = true
	}
	for _, m := range d.c.Mounts {
		if m.Type != "volume" || m.Name == "" || told[m.Destination] {
			continue
		}
		bind := m.Name + ":" + m.Destination
		if !m.RW {
			bind += ":ro"
		}
		binds = append(binds, bind)
	}
	if len(mounts) > 0 {
		d.host["Mounts"] = mounts
	}
	if len(binds) > 0 {
		d.host["Binds"] = binds
	}
	return nil
}

// everywhere are the networks that every engine has.
var everywhere = []string{"", "default", "bridge", "host", "none"}

// settings are the fields of an endpoint that a user chooses; the others tell how it was.
var settings = []string{"IPAMConfig", "Links", "Aliases", "DriverOpts", "GwPriority"}

// endpoints asks for the networks that the container was in.
func (d *definition) endpoints() error {
	mac := text(d.body["MacAddress"])
	delete(d.body, "MacAddress")
	primary, _ := d.host["NetworkMode"].(string)
	asked := map[string]any{}
	for name, raw := range d.c.Networks {
		name = d.network(name)
		user := !slices.Contains(everywhere, name)
		var was map[string]json.RawMessage
		if err := json.Unmarshal(raw, &was); err != nil {
			return fmt.Errorf("its network %s: %w", name, err)
		}
		e := map[string]any{}
		for _, k := range settings {
			if v := was[k]; len(v) > 0 && string(v) != "null" && string(v) != "[]" && string(v) != "{}" {
				e[k] = v
			}
		}
		if err := d.aliases(e); err != nil {
			return err
		}
		if mac != "" && (name == primary || !user) {
			e["MacAddress"] = mac
		}
		if user {
			d.needs = append(d.needs, name)
		}
		if user || len(e) > 0 {
			asked[name] = e
		}
	}
	if len(asked) > 0 {
		d.body["NetworkingConfig"] = map[string]any{"EndpointsConfig": asked}
	}
	slices.Sort(d.needs)
	return nil
}

// aliases leaves out the alias that is the container's short ID: the new one's is another.
func (d *definition) aliases(e map[string]any) error {
	var list []string
	if err := decode(e["Aliases"], &list); err != nil {
		return fmt.Errorf("its aliases: %w", err)
	}
	list = slices.DeleteFunc(list, func(a string) bool { return a == d.c.ID[:12] })
	delete(e, "Aliases")
	if len(list) > 0 {
		e["Aliases"] = list
	}
	return nil
}

// defaults leaves to the engine what was Docker's default, and drops what only made sense there.
func (d *definition) defaults() {
	switch text(d.host["Runtime"]) {
	case "runc", "io.containerd.runc.v2", "io.containerd.runtime.v1.linux":
		delete(d.host, "Runtime")
	}
	for _, k := range []string{"ContainerIDFile", "KernelMemory", "KernelMemoryTCP", "ConsoleSize"} {
		delete(d.host, k)
	}
}
