package dockerroot

import (
	_ "crypto/sha256" // go-digest looks the algorithm up
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image: its configuration and its layers.
type Image struct {
	ID      digest.Digest // of the configuration
	Config  []byte        // verified
	Names   []string      // repository:tag, as they are shown
	Digests []string      // repository@digest: where it was pulled from
	Parent  digest.Digest // of a build's or commit's; empty for most
	Layers  []*Layer      // the lowest first
}

// maxLayers bounds the layers of one image.
const maxLayers = 1024

// Images lists all images, named ones first, each whose layers' records are whole.
func (r *Root) Images() (list []*Image, problems []Problem) {
	if r.Driver == "" {
		return nil, nil
	}
	names, err := r.names()
	if err != nil {
		problems = append(problems, Problem{"image", "(names)", err})
	}
	entries, err := os.ReadDir(r.image("imagedb", "content", "sha256"))
	if err != nil {
		return nil, append(problems, Problem{"image", "(all)", err})
	}
	layers := map[digest.Digest]*Layer{}
	for _, e := range entries {
		if !hexID.MatchString(e.Name()) {
			continue
		}
		id := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		i := &Image{ID: id, Names: names[id].tags, Digests: names[id].digests}
		delete(names, id)
		if err := r.load(i, layers); err != nil {
			problems = append(problems, Problem{"image", i.Title(), err})
			continue
		}
		list = append(list, i)
	}
	for id, n := range names {
		problems = append(problems, Problem{"image", strings.Join(append(n.tags, n.digests...), ", "), fmt.Errorf("its configuration %s is missing", id)})
	}
	slices.SortFunc(list, func(a, b *Image) int {
		if d := min(1, len(b.Names)) - min(1, len(a.Names)); d != 0 {
			return d
		}
		return strings.Compare(a.Title(), b.Title())
	})
	return list, problems
}

// Title is the image's first name, or its ID.
func (i *Image) Title() string {
	switch {
	case len(i.Names) > 0:
		return i.Names[0]
	case len(i.Digests) > 0:
		return i.Digests[0]
	}
	return i.ID.String()
}

// named is what repositories.json says about an image.
type named struct{ tags, digests []string }

func (r *Root) names() (map[digest.Digest]named, error) {
	var file struct {
		Repositories map[string]map[string]digest.Digest
	}
	err := readJSON(r.image("repositories.json"), &file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	all := map[digest.Digest]named{}
	for _, refs := range file.Repositories {
		for ref, id := range refs {
			n := all[id]
			if strings.Contains(ref, "@") {
				n.digests = append(n.digests, ref)
			} else {
				n.tags = append(n.tags, ref)
			}
			all[id] = n
		}
	}
	for _, n := range all {
		slices.Sort(n.tags)
		slices.Sort(n.digests)
	}
	return all, err
}

// load reads an image's configuration, and finds its layers.
func (r *Root) load(i *Image, layers map[digest.Digest]*Layer) error {
	b, err := read(r.image("imagedb", "content", "sha256", i.ID.Encoded()))
	if err != nil {
		return err
	}
	if got := digest.FromBytes(b); got != i.ID {
		return fmt.Errorf("its configuration is damaged: it has the digest %s", got)
	}
	var config ocispec.Image
	if err := json.Unmarshal(b, &config); err != nil {
		return fmt.Errorf("its configuration is not the JSON it should be: %w", err)
	}
	if config.OS != "" && config.OS != "linux" {
		return fmt.Errorf("is of the operating system %s", config.OS)
	}
	if n := len(config.RootFS.DiffIDs); n > maxLayers {
		return fmt.Errorf("has %d layers, more than %d", n, maxLayers)
	}
	i.Config = b
	if parent, err := read(r.image("imagedb", "metadata", "sha256", i.ID.Encoded(), "parent")); err == nil {
		i.Parent = digest.Digest(parent)
	}
	for n := range config.RootFS.DiffIDs {
		if err := config.RootFS.DiffIDs[n].Validate(); err != nil {
			return fmt.Errorf("its configuration names the layer %q: %w", config.RootFS.DiffIDs[n], err)
		}
		chain := identity.ChainID(config.RootFS.DiffIDs[:n+1])
		if layers[chain] == nil {
			l, err := r.layer(chain, config.RootFS.DiffIDs[n])
			if err != nil {
				return fmt.Errorf("layer %d of %d: %w", n+1, len(config.RootFS.DiffIDs), err)
			}
			layers[chain] = l
		}
		i.Layers = append(i.Layers, layers[chain])
	}
	return nil
}
