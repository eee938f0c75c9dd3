package movein

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/dockerroot"
)

const kindContainer = "container"

// movers takes containers over: they are made here as they were defined there, and not started.
type movers struct {
	*job
	images *images
	all    []*dockerroot.Container
}

func (m *movers) run(ctx context.Context) error {
	for _, c := range m.all {
		if err := m.add(ctx, m.take(ctx, c)); err != nil {
			return err
		}
	}
	return nil
}

// take takes one container over.
func (m *movers) take(ctx context.Context, c *dockerroot.Container) Item {
	switch {
	case c.Managed:
		return Item{Kind: kindContainer, Name: c.Name, Result: LeftOut, Note: "it is a task of a swarm's service"}
	case c.Removing:
		return Item{Kind: kindContainer, Name: c.Name, Result: LeftOut, Note: "Docker was about to remove it"}
	}
	image, err := m.image(ctx, c)
	if err != nil {
		return failed(kindContainer, c.Name, err)
	}
	body, err := m.request(ctx, c, image)
	if err != nil {
		return failed(kindContainer, c.Name, err)
	}
	item, replace, done := m.existing(ctx, c, body)
	if done {
		return item
	}
	wrote := m.wrote(c)
	if m.o.DryRun {
		item.Result = Planned
	} else if err := m.create(ctx, c, body, wrote, replace); err != nil {
		return failed(kindContainer, c.Name, err)
	}
	item.Note = strings.Join(m.notes(c, wrote), "; ")
	return item
}

// create makes the container, in the place of another one if it is to be replaced.
func (m *movers) create(ctx context.Context, c *dockerroot.Container, body map[string]any, wrote, replace bool) error {
	if m.o.Writable && wrote {
		image, err := m.writable(ctx, c)
		if err != nil {
			return fmt.Errorf("what it wrote: %w", err)
		}
		body["Image"] = image
	}
	if replace {
		if err := m.engine.Delete(ctx, "/containers/"+c.Name, nil, nil); err != nil {
			return err
		}
	}
	var made container.CreateResponse
	return m.engine.Post(ctx, "/containers/create", url.Values{"name": {c.Name}}, body, &made)
}

// notes are what the user has to know about a container that was taken.
func (m *movers) notes(c *dockerroot.Container, wrote bool) (notes []string) {
	if c.Running {
		notes = append(notes, "it runs in Docker: stop it there, then start it here")
	}
	if wrote && !m.o.Writable {
		notes = append(notes, "what it wrote outside volumes stays behind: --writable takes it")
	}
	if _, err := m.root.Writable(c); err != nil && m.o.Writable {
		notes = append(notes, err.Error())
	}
	for _, mount := range c.Mounts {
		if mount.Type == "bind" && strings.HasPrefix(mount.Source, m.root.Path+"/") {
			notes = append(notes, "it binds "+mount.Source+", which belongs to Docker")
		}
	}
	return notes
}

// wrote says whether a container has files of its own.
func (m *movers) wrote(c *dockerroot.Container) bool {
	dir, err := m.root.Writable(c)
	if err != nil {
		return false
	}
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}

// image is what the new container is to be made of: the name the user gave, while it still means the same image.
func (m *movers) image(ctx context.Context, c *dockerroot.Container) (string, error) {
	id, err := m.images.find(ctx, c.Image.String())
	if err != nil {
		return "", err
	}
	var name string
	_ = json.Unmarshal(c.Config["Image"], &name)
	if id == "" {
		if m.o.DryRun && m.o.Images && m.images.byID(c.Image) != nil {
			return name, nil
		}
		if m.root.Containerd {
			return "", fmt.Errorf("its image %s (%s) is in containerd's image store: docker save it, gantry load it, and repeat this", name, c.Image)
		}
		if m.images.byID(c.Image) == nil {
			return "", fmt.Errorf("Docker itself has no whole image %s (%s) for it", name, c.Image)
		}
		return "", fmt.Errorf("its image %s (%s) is not here", name, c.Image)
	}
	if owner, err := m.images.find(ctx, name); err == nil && owner == id {
		return name, nil
	}
	return id, nil
}

// existing looks for a container of that name here: done says that nothing is left to do, replace that it has to go.
func (m *movers) existing(ctx context.Context, c *dockerroot.Container, body map[string]any) (item Item, replace, done bool) {
	item = Item{Kind: kindContainer, Name: c.Name, Result: Taken}
	var here struct{ Config map[string]any }
	err := m.engine.Get(ctx, "/containers/"+c.Name+"/json", nil, &here)
	if api.IsNotFound(err) {
		return item, false, false
	}
	if err != nil {
		return failed(kindContainer, c.Name, err), false, true
	}
	if sameContainer(here.Config, body) {
		item.Result = Present
		return item, false, true
	}
	if !m.o.Force {
		return conflict(kindContainer, c.Name, "here it is another container: --force replaces it, if it is not running"), false, true
	}
	return item, true, false
}

// identifying are the fields of a configuration by which a container is known again; its host name is, for most, Docker's ID.
var identifying = []string{"Hostname", "Domainname", "User", "Cmd", "Entrypoint", "Env", "WorkingDir", "Labels", "Tty"}

func sameContainer(here, want map[string]any) bool {
	for _, k := range identifying {
		if !reflect.DeepEqual(plain(here[k]), plain(want[k])) {
			return false
		}
	}
	return true
}

// plain is a value as JSON has it, with everything that says nothing as nil.
func plain(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var out any
	_ = json.Unmarshal(b, &out) // it was just written
	switch x := out.(type) {
	case []any:
		if len(x) == 0 {
			return nil
		}
	case map[string]any:
		if len(x) == 0 {
			return nil
		}
	case string:
		if x == "" {
			return nil
		}
	case bool:
		if !x {
			return nil
		}
	}
	return out
}

// request is the body that creates the container anew.
func (m *movers) request(ctx context.Context, c *dockerroot.Container, image string) (map[string]any, error) {
	d := &definition{c: c, containers: m.all, body: map[string]any{}, host: map[string]any{}}
	if m.root.Driver != "" || m.o.Networks {
		d.networks, _ = m.root.Networks()
	}
	for k, v := range c.Config {
		d.body[k] = v
	}
	for k, v := range c.HostConfig {
		d.host[k] = v
	}
	d.body["Image"] = image
	if err := errors.Join(d.others(), d.volumes(), d.endpoints()); err != nil {
		return nil, err
	}
	d.defaults()
	for _, n := range d.needs {
		if m.o.DryRun && m.report.has(kindNetwork, n, Planned, Present) {
			continue
		}
		if err := m.engine.Get(ctx, "/networks/"+n, nil, nil); err != nil {
			return nil, fmt.Errorf("it needs the network %s: %w", n, err)
		}
	}
	d.body["HostConfig"] = d.host
	return d.body, nil
}
