package movein

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/progress"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

// Media types of Docker's, by which the manifest is the one that an engine makes of what docker save gives: the image's ID is the same.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
)

// blob is a layer, with who writes it.
type blob struct {
	digest digest.Digest
	size   int64
	write  func(context.Context, io.Writer) error
}

// archive is an image on its way to the engine.
type archive struct {
	config   []byte
	layers   []blob
	manifest []byte
	names    []ref.Ref
}

func newArchive(config []byte, layers []blob, names []ref.Ref) (*archive, error) {
	m := struct {
		specs.Versioned
		MediaType string               `json:"mediaType"`
		Config    ocispec.Descriptor   `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
	}{specs.Versioned{SchemaVersion: 2}, dockerManifest, ocispec.Descriptor{MediaType: dockerConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}, []ocispec.Descriptor{}}
	for _, l := range layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: dockerLayer, Digest: l.digest, Size: l.size})
	}
	b, err := json.Marshal(m)
	return &archive{config: config, layers: layers, manifest: b, names: names}, err
}

// id is the image's in the engine.
func (a *archive) id() digest.Digest { return digest.FromBytes(a.manifest) }

// load streams the image to the engine, without layers that skip has. progress is told how much of how much has gone.
func (a *archive) load(ctx context.Context, e Engine, skip map[digest.Digest]bool, tell func(done, total int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		b := bufio.NewWriterSize(w, 1<<20)
		err := a.write(ctx, tar.NewWriter(b), skip, tell)
		if err == nil {
			err = b.Flush()
		}
		_ = w.CloseWithError(err)
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			cancel(err) // the engine would wait for the rest of a body that does not come
		}
		written <- err
	}()
	resp, err := e.Do(ctx, api.Request{Method: http.MethodPost, Path: "/images/load", Query: url.Values{"quiet": {"1"}}, Body: struct{ io.Reader }{r}, Header: map[string]string{"Content-Type": "application/x-tar"}})
	if err == nil {
		err = progress.Show(resp.Body, io.Discard, 0, nil)
		_ = resp.Body.Close()
	}
	_ = r.CloseWithError(io.ErrClosedPipe)
	if werr := <-written; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		return werr // what the engine said is a consequence
	}
	return err
}

func (a *archive) write(ctx context.Context, tw *tar.Writer, skip map[digest.Digest]bool, tell func(done, total int64)) error {
	small := []struct {
		name string
		data []byte
	}{{ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {path(digest.FromBytes(a.config)), a.config}, {path(a.id()), a.manifest}}
	index, err := a.index()
	if err != nil {
		return err
	}
	small = append(small, struct {
		name string
		data []byte
	}{ocispec.ImageIndexFile, index})
	for _, s := range small {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: s.name, Mode: 0o644, Size: int64(len(s.data))}); err != nil {
			return err
		}
		if _, err := tw.Write(s.data); err != nil {
			return err
		}
	}
	gone := map[digest.Digest]bool{}
	var total, done int64
	for _, l := range a.layers {
		if !skip[l.digest] && !gone[l.digest] {
			total += l.size
			gone[l.digest] = true
		}
	}
	tell(0, total)
	for _, l := range a.layers {
		if !gone[l.digest] {
			continue
		}
		delete(gone, l.digest) // one that an image has twice goes once
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path(l.digest), Mode: 0o644, Size: l.size}); err != nil {
			return err
		}
		if err := l.write(ctx, &counted{tw, func(n int64) { done += n; tell(done, total) }}); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (a *archive) index() ([]byte, error) {
	desc := ocispec.Descriptor{MediaType: dockerManifest, Digest: a.id(), Size: int64(len(a.manifest))}
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, n := range a.names {
		named := desc
		named.Annotations = map[string]string{"io.containerd.image.name": n.String(), ocispec.AnnotationRefName: n.Tag}
		idx.Manifests = append(idx.Manifests, named)
	}
	if len(a.names) == 0 {
		idx.Manifests = append(idx.Manifests, desc)
	}
	return json.Marshal(idx)
}

func path(d digest.Digest) string { return fmt.Sprintf("blobs/%s/%s", d.Algorithm(), d.Encoded()) }

// counted tells what goes through it.
type counted struct {
	w    io.Writer
	tell func(int64)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.tell(int64(n))
	return n, err
}
