package images

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/instructions"
)

// importer makes images of root file systems.
type importer struct {
	assemble *assembler
	announce announcer
}

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
func (i *importer) Import(ctx context.Context, body io.Reader, o ImportOptions, out Progress) error {
	name, err := nameOrNone(o.Repo, o.Tag)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	img := dockerspec.DockerOCIImage{}
	img.Platform = platforms.DefaultSpec()
	if o.Platform != nil {
		img.Platform = platforms.Normalize(*o.Platform)
	}
	img.Created = &now
	if err := instructions.Apply(&img.Config, o.Changes); err != nil {
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
	id, err := i.assemble.image(ctx, name, img, nil, func(ctx context.Context, w io.Writer) error {
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
	i.announce.image(events.ActionImport, id, img.Config.Labels)
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
