package fromengine

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/registryserver/manifest"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// read reads an archive with an OCI layout into a repository, blob by blob as they come, and gives the image's descriptor.
func (s *Source) read(repo string, archive io.Reader) (d ocispec.Descriptor, err error) {
	t := tar.NewReader(archive)
	var index *ocispec.Index
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return d, err
		}
		switch name := path.Clean(h.Name); {
		case h.Typeflag != tar.TypeReg:
		case name == ocispec.ImageIndexFile:
			index = &ocispec.Index{}
			if err := json.NewDecoder(io.LimitReader(t, manifest.MaxSize)).Decode(index); err != nil {
				return d, fmt.Errorf("its index: %w", err)
			}
		case strings.HasPrefix(name, ocispec.ImageBlobsDir+"/"):
			want, err := naming.Digest(strings.Replace(strings.TrimPrefix(name, ocispec.ImageBlobsDir+"/"), "/", ":", 1))
			if err != nil {
				return d, err
			}
			if err := s.blob(repo, want, t); err != nil {
				return d, err
			}
		}
	}
	if index == nil || len(index.Manifests) == 0 {
		return d, errors.New("it has no OCI layout: the engine is too old")
	}
	return index.Manifests[0], nil
}

// blob stores one blob of the archive.
func (s *Source) blob(repo string, want digest.Digest, r io.Reader) error {
	u, err := s.store.Begin(repo, want.Algorithm())
	if err != nil {
		return err
	}
	_, release, err := u.Hold(context.Background())
	if err != nil {
		return err
	}
	defer release()
	if _, err := u.Append(r); err != nil {
		return errors.Join(err, u.Cancel())
	}
	_, err = u.Commit(want)
	return err
}

// put stores a manifest that came as a blob, those that it refers to first.
func (s *Source) put(repo, tag string, d ocispec.Descriptor) error {
	body, err := s.content(repo, d.Digest, manifest.MaxSize)
	if err != nil {
		return err
	}
	m, err := manifest.Parse(d.MediaType, body)
	if err != nil {
		return err
	}
	incomplete := false
	for _, ref := range m.References {
		if ref.Kind != manifest.Child {
			continue
		}
		// An engine has the platforms that it needs; of the others the index speaks all the same.
		if err := s.put(repo, "", ocispec.Descriptor{MediaType: ref.MediaType, Digest: ref.Digest}); err != nil {
			incomplete = true
		}
	}
	return s.store.PutManifest(storage.Put{Repository: repo, Tag: tag, Digest: d.Digest, Body: body, Parsed: m, Incomplete: incomplete})
}
