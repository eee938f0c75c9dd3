package movein

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"strings"

	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/ref"
	"github.com/gantry-engine/gantry/internal/dockerroot"
)

const kindImage = "image"

// images takes images over.
type images struct {
	*job
	used      map[digest.Digest]bool   // by containers
	engineIDs map[digest.Digest]string // by Docker's IDs, of those that are here now
	sent      map[digest.Digest]bool   // layers that the engine has as they are
	parents   map[digest.Digest]bool   // images that others were made of
	list      []*dockerroot.Image
}

func (m *images) run(ctx context.Context) error {
	if m.root.Containerd {
		if err := m.add(ctx, Item{Kind: kindImage, Name: "(containerd's image store)", Result: Failed,
			Note: "images that Docker keeps in containerd's store are not read: docker save them, and gantry load the archive"}); err != nil {
			return err
		}
	}
	list, problems := m.root.Images()
	m.list, m.parents = list, map[digest.Digest]bool{}
	for _, i := range list {
		m.parents[i.Parent] = true
	}
	for _, i := range list {
		if len(i.Names) == 0 && !m.used[i.ID] && !m.o.AllImages {
			note := "it has no name, and no container uses it: --all takes it"
			if m.parents[i.ID] {
				note = "it is a step of a build"
			}
			if err := m.add(ctx, Item{Kind: kindImage, Name: i.Title(), Result: LeftOut, Note: note}); err != nil {
				return err
			}
			continue
		}
		if err := m.add(ctx, m.take(ctx, i)); err != nil {
			return err
		}
	}
	return m.problems(ctx, problems)
}

// blobs are an image's layers as the archive has them.
func blobs(i *dockerroot.Image) (list []blob, err error) {
	for _, l := range i.Layers {
		n, err := l.Size()
		if err != nil {
			return nil, err
		}
		list = append(list, blob{l.DiffID, n, l.WriteTo})
	}
	return list, nil
}

// take takes one image over.
func (m *images) take(ctx context.Context, i *dockerroot.Image) Item {
	item := Item{Kind: kindImage, Name: i.Title(), Result: Taken}
	layers, err := blobs(i)
	if err != nil {
		return failed(kindImage, item.Name, err)
	}
	a, err := newArchive(i.Config, layers, nil)
	if err != nil {
		return failed(kindImage, item.Name, err)
	}
	here, err := m.find(ctx, i.ID.String())
	if err != nil {
		return failed(kindImage, item.Name, err)
	}
	var taken []string
	if a.names, taken, err = m.names(ctx, i, here); err != nil {
		return failed(kindImage, item.Name, err)
	}
	switch {
	case m.o.DryRun:
		item.Result = Planned
		if here != "" && len(a.names) == 0 {
			item.Result = Present
		} else if here == "" {
			item.Size = m.lacking(layers)
		}
		m.note(a, here == "")
	case here != "":
		item.Result = Present
		for _, n := range a.names {
			if err := m.engine.Post(ctx, "/images/"+here+"/tag", url.Values{"repo": {n.FamiliarName()}, "tag": {n.Tag}}, nil, nil); err != nil {
				return failed(kindImage, item.Name, fmt.Errorf("naming it %s: %w", n.Familiar(), err))
			}
			item.Result, item.Note = Taken, "its layers were here"
		}
		m.engineIDs[i.ID] = here
		m.note(a, here == a.id().String())
	default:
		if item.Size, err = m.load(ctx, a, item.Name); err != nil {
			return failed(kindImage, item.Name, err)
		}
		m.engineIDs[i.ID] = a.id().String()
	}
	if len(taken) > 0 {
		item.Result, item.Note = Conflict, "here, "+strings.Join(taken, ", ")+" is another image: --force gives this one the name"
	} else if len(i.Digests) > 0 && len(i.Names) == 0 {
		item.Note = "its name by digest is not kept: pull it for that"
	}
	return item
}

// note remembers which layers the engine has as they are; of an image that was pulled here they are packed otherwise.
func (m *images) note(a *archive, same bool) {
	if !same {
		return
	}
	for _, l := range a.layers {
		m.sent[l.digest] = true
	}
}

func (m *images) lacking(layers []blob) (n int64) {
	counted := maps.Clone(m.sent)
	for _, l := range layers {
		if !counted[l.digest] {
			counted[l.digest] = true
			n += l.size
		}
	}
	return n
}

// load sends an image; layers that went with another one stay out, unless the engine has lost them.
func (m *images) load(ctx context.Context, a *archive, name string) (int64, error) {
	var size int64
	tell := func(done, total int64) {
		size = total
		m.progress(name, "Copying layers", done, total)
	}
	err := a.load(ctx, m.engine, m.sent, tell)
	if err != nil && ctx.Err() == nil && m.lacking(a.layers) < total(a.layers) && isRefusal(err) {
		err = a.load(ctx, m.engine, nil, tell)
	}
	if err != nil {
		return 0, err
	}
	m.progress(name, "Taken", 0, 0)
	m.note(a, true)
	return size, nil
}

func total(layers []blob) (n int64) {
	for _, l := range layers {
		n += l.size
	}
	return n
}

// isRefusal says whether the engine, not something on the way, refused.
func isRefusal(err error) bool {
	_, ok := err.(*api.Error)
	return ok
}

// find gives the engine's ID of an image by its name or the digest of its configuration; empty where it is not here.
func (m *images) find(ctx context.Context, name string) (string, error) {
	var found image.InspectResponse
	err := m.engine.Get(ctx, "/images/"+name+"/json", nil, &found)
	if api.IsNotFound(err) {
		return "", nil
	}
	return found.ID, err
}

// names are those that the image is to get here, and those that another image has.
func (m *images) names(ctx context.Context, i *dockerroot.Image, here string) (missing []ref.Ref, taken []string, err error) {
	for _, n := range i.Names {
		r, err := ref.Parse(n)
		if err != nil {
			return nil, nil, fmt.Errorf("its name %q: %w", n, err)
		}
		owner, err := m.find(ctx, r.Familiar())
		switch {
		case err != nil:
			return nil, nil, err
		case owner != "" && owner == here:
		case owner == "" || m.o.Force:
			missing = append(missing, r)
		default:
			taken = append(taken, n)
		}
	}
	return missing, taken, nil
}
