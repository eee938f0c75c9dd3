package images

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/instructions"
	"github.com/gantry-engine/gantry/internal/spec"
)

// committer makes images of containers.
type committer struct {
	catalog  *catalog
	users    *users
	layers   Layers
	assemble *assembler
	announce announcer
}

// CommitOptions are the query parameters and the body of POST /commit.
type CommitOptions struct {
	Container string
	Repo, Tag string
	Comment   string
	Author    string
	Pause     bool
	Changes   []string
	Config    *spec.ImageConfig // from the body; nil leaves the container's
}

// Commit makes an image of a container's file system and configuration.
func (m *committer) Commit(ctx context.Context, o CommitOptions) (id digest.Digest, err error) {
	if m.users.containers == nil {
		return "", fmt.Errorf("commit: containers are not there yet: %w", errdefs.ErrUnavailable)
	}
	name, err := nameOrNone(o.Repo, o.Tag)
	if err != nil {
		return "", err
	}
	err = m.users.containers.Snapshot(ctx, o.Container, o.Pause, func(ctx context.Context, c Committable) error {
		base := m.catalog.platformOf(c.Image.Manifest)
		img := dockerspec.DockerOCIImage{}
		img.Platform = c.Image.Platform
		switch {
		case base != nil:
			img.Platform, img.History = base.image.Platform, slices.Clone(base.image.History)
		case len(c.Image.DiffIDs) > 0:
			return fmt.Errorf("the image %s of container %s was deleted; its layers cannot be part of a new image: %w", short(c.Image.ID.String()), short(c.ID), errdefs.ErrFailedPrecondition)
		}
		img.Config = c.Config
		if o.Config != nil {
			img.Config = mergeConfig(*o.Config, c.Config)
		}
		if err := instructions.Apply(&img.Config, o.Changes); err != nil {
			return err
		}
		now := time.Now().UTC()
		img.Created, img.Author = &now, o.Author
		img.History = append(img.History, ocispec.History{
			Created: &now, CreatedBy: strings.Join(c.Config.Cmd, " "), Author: o.Author, Comment: o.Comment,
		})
		id, err = m.assemble.image(ctx, name, img, base, func(ctx context.Context, w io.Writer) error {
			return m.layers.Export(ctx, c.ID, w)
		})
		if err != nil {
			return err
		}
		m.announce.committed(c, id, name, o.Comment)
		return nil
	})
	return id, err
}

// mergeConfig fills in what a commit's body leaves open.
func mergeConfig(c, from spec.ImageConfig) spec.ImageConfig {
	var out spec.ImageConfig
	for _, layer := range []spec.ImageConfig{from, c} { // what is empty in the second leaves the first's
		b, err := json.Marshal(layer)
		if err == nil {
			err = json.Unmarshal(b, &out)
		}
		if err != nil {
			return from
		}
	}
	names := map[string]bool{}
	for _, e := range c.Env {
		k, _, _ := strings.Cut(e, "=")
		names[k] = true
	}
	out.Env = slices.Clone(c.Env)
	for _, e := range from.Env {
		if k, _, _ := strings.Cut(e, "="); !names[k] {
			out.Env = append(out.Env, e)
		}
	}
	out.Labels = maps.Clone(from.Labels)
	for k, v := range c.Labels {
		if out.Labels == nil {
			out.Labels = map[string]string{}
		}
		out.Labels[k] = v
	}
	return out
}
