package images

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/spec"
)

// emptyTar is the digest of a tar archive without entries.
const emptyTar = digest.Digest("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")

// ImportOptions are the query parameters of POST /images/create with fromSrc.
type ImportOptions struct {
	Source   string // "-" for the body, or an HTTP address
	Repo     string
	Tag      string
	Message  string
	Changes  []string
	Platform *ocispec.Platform
}

// Import makes an image of one layer from a root file system's tar, compressed or not.
func (s *Service) Import(ctx context.Context, body io.Reader, o ImportOptions, out Progress) (err error) {
	name := ""
	if o.Repo != "" {
		named, err := parseName(o.Repo, o.Tag)
		if err != nil {
			return err
		}
		name = named.String()
	}
	now := time.Now().UTC()
	img := dockerspec.DockerOCIImage{}
	img.Platform = platforms.DefaultSpec()
	if o.Platform != nil {
		img.Platform = platforms.Normalize(*o.Platform)
	}
	img.Created = &now
	if err := applyChanges(&img.Config, o.Changes); err != nil {
		return err
	}
	src, from, err := source(ctx, body, o.Source, out)
	if err != nil {
		return err
	}
	defer src.Close()
	if o.Message == "" {
		o.Message = "Imported from " + from
	}
	img.History = []ocispec.History{{Created: &now, Comment: o.Message}}
	id, err := s.create(ctx, name, img, nil, func(ctx context.Context, w io.Writer) error {
		z, err := decompress(bound{ctx, src})
		if err != nil {
			return err
		}
		defer z.Close()
		_, err = io.CopyBuffer(w, struct{ io.Reader }{z}, make([]byte, 256<<10))
		return archiveError(err)
	})
	if err != nil {
		return err
	}
	out.Status(id.String())
	s.announce.image(events.ActionImport, id, img.Config.Labels)
	return nil
}

// source opens what is to be imported.
func source(ctx context.Context, body io.Reader, src string, out Progress) (io.ReadCloser, string, error) {
	if src == "-" || src == "" {
		return io.NopCloser(body), "-", nil
	}
	if !strings.Contains(src, "://") {
		src = "http://" + src
	}
	u, err := url.Parse(src)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, "", fmt.Errorf("the source %q is neither \"-\" nor an HTTP address: %w", src, errdefs.ErrInvalidArgument)
	}
	out.Status("Downloading from " + u.Redacted())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("downloading the source: %w: %w", err, errdefs.ErrUnavailable)
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, "", fmt.Errorf("downloading %s: the server answered %s: %w", u.Redacted(), res.Status, errdefs.ErrInvalidArgument)
	}
	return res.Body, u.Redacted(), nil
}

// create makes an image of base's layers and one more, which write streams as an
// uncompressed tar: hashed in the same pass in which it is stored. An empty layer is left out.
func (s *Service) create(ctx context.Context, name string, img dockerspec.DockerOCIImage, base *manifest, write func(context.Context, io.Writer) error) (id digest.Digest, err error) {
	held, release, err := s.content.Hold(ctx)
	if err != nil {
		return "", err
	}
	defer func() {
		release()
		if err != nil {
			s.catalog.sweep(ctx)
		}
	}()
	layer, err := s.streamLayer(held, write)
	if err != nil {
		return "", err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	img.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	if base != nil {
		m.Layers = append(m.Layers, base.layers...)
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, base.image.RootFS.DiffIDs...)
	}
	if layer.Digest == emptyTar {
		img.History[len(img.History)-1].EmptyLayer = true
	} else {
		m.Layers = append(m.Layers, layer)
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, layer.Digest)
	}
	if m.Config, err = s.writeJSON(held, ocispec.MediaTypeImageConfig, img); err != nil {
		return "", err
	}
	target, err := s.writeJSON(held, m.MediaType, m, append([]ocispec.Descriptor{m.Config}, m.Layers...)...)
	if err != nil {
		return "", err
	}
	unpacked, err := s.unpack(held, &manifest{desc: target, config: m.Config, layers: m.Layers, image: img})
	if err != nil {
		return "", err
	}
	defer unpacked()
	_, err = s.catalog.point(held, name, target)
	return target.Digest, err
}

// streamLayer stores what write writes as a blob.
func (s *blobs) streamLayer(ctx context.Context, write func(context.Context, io.Writer) error) (d ocispec.Descriptor, err error) {
	blobs := s.content.Blobs()
	ref := fmt.Sprintf("layer-%d", time.Now().UnixNano())
	w, err := content.OpenWriter(ctx, blobs, content.WithRef(ref))
	if err != nil {
		return d, diskFull(err)
	}
	defer func() {
		_ = w.Close()
		if err != nil {
			_ = blobs.Abort(context.WithoutCancel(ctx), ref)
		}
	}()
	count := &counter{w: w}
	if err := write(ctx, count); err != nil {
		return d, diskFull(err)
	}
	d = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: w.Digest(), Size: count.n}
	if err := w.Commit(ctx, d.Size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return d, diskFull(err)
	}
	return d, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
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
func (s *Service) Commit(ctx context.Context, o CommitOptions) (id digest.Digest, err error) {
	if s.users.containers == nil {
		return "", fmt.Errorf("commit: containers are not there yet: %w", errdefs.ErrUnavailable)
	}
	name := ""
	if o.Repo != "" {
		named, err := parseName(o.Repo, o.Tag)
		if err != nil {
			return "", err
		}
		name = named.String()
	}
	err = s.users.containers.Snapshot(ctx, o.Container, o.Pause, func(ctx context.Context, c Committable) error {
		var base *manifest
		img := dockerspec.DockerOCIImage{}
		img.Platform = c.Image.Platform
		if e := s.catalog.byDigest(c.Image.Manifest); e != nil {
			for _, m := range e.manifests {
				if m.desc.Digest == c.Image.Manifest {
					base = m
				}
			}
		}
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
		if err := applyChanges(&img.Config, o.Changes); err != nil {
			return err
		}
		now := time.Now().UTC()
		img.Created, img.Author = &now, o.Author
		img.History = append(img.History, ocispec.History{
			Created: &now, CreatedBy: strings.Join(c.Config.Cmd, " "), Author: o.Author, Comment: o.Comment,
		})
		id, err = s.create(ctx, name, img, base, func(ctx context.Context, w io.Writer) error {
			return s.layers.Export(ctx, c.ID, w)
		})
		if err != nil {
			return err
		}
		s.announce.committed(c, id, name, o.Comment)
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
