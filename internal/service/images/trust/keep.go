package trust

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// keptLabel marks, at an image's manifest or index, the manifest of a signature that was verified: it lives as long, and can
// be verified again without the registry. The signature's digest follows.
const keptLabel = "containerd.io/gc.ref.content.signature."

// maxKept bounds how many are read of one image.
const maxKept = 256

// Keep stores proofs with the image. ctx comes from Hold, the image's own blob is here.
func (g *Guard) Keep(ctx context.Context, image digest.Digest, proofs []*Proof) error {
	blobs := g.content.Blobs()
	labels := map[string]string{}
	var paths []string
	for _, p := range proofs {
		children := map[string]string{}
		for i, part := range p.Parts {
			if err := write(ctx, blobs, part.Descriptor, part.Body, nil); err != nil {
				return fmt.Errorf("keeping a signature: %w", err)
			}
			children["containerd.io/gc.ref.content."+strconv.Itoa(i)] = part.Digest.String()
		}
		if err := write(ctx, blobs, p.Manifest, p.Body, children); err != nil {
			return fmt.Errorf("keeping a signature: %w", err)
		}
		key := keptLabel + p.Manifest.Digest.Encoded()[:16]
		labels[key] = p.Manifest.Digest.String()
		paths = append(paths, "labels."+key)
	}
	if len(paths) == 0 {
		return nil
	}
	if _, err := blobs.Update(ctx, content.Info{Digest: image, Labels: labels}, paths...); err != nil {
		return fmt.Errorf("keeping a signature: %w", err)
	}
	return nil
}

func write(ctx context.Context, blobs content.Store, d ocispec.Descriptor, body []byte, labels map[string]string) error {
	plain := ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	if err := content.WriteBlob(ctx, blobs, "signature-"+d.Digest.String(), bytes.NewReader(body), plain, content.WithLabels(labels)); err != nil {
		return err
	}
	if len(labels) == 0 {
		return nil
	}
	// Where the blob was here before, the labels may be missing.
	var paths []string
	for k := range labels {
		paths = append(paths, "labels."+k)
	}
	_, err := blobs.Update(ctx, content.Info{Digest: d.Digest, Labels: labels}, paths...)
	return err
}

// Kept gives the proofs that are kept with an image. Those that cannot be read are left out: they prove nothing.
func (g *Guard) Kept(ctx context.Context, image digest.Digest) (list []*Proof) {
	ctx = g.content.Context(ctx)
	i, err := g.content.Blobs().Info(ctx, image)
	if err != nil {
		return nil
	}
	for k, v := range i.Labels {
		if d := digest.Digest(v); strings.HasPrefix(k, keptLabel) && len(list) < maxKept {
			if p, err := g.Here(ctx, image, d); err == nil {
				list = append(list, p)
			}
		}
	}
	return list
}

// Here reads a proof whose blobs are all in the content store.
func (g *Guard) Here(ctx context.Context, image, manifest digest.Digest) (*Proof, error) {
	ctx = g.content.Context(ctx)
	blobs := g.content.Blobs()
	i, err := blobs.Info(ctx, manifest)
	if err != nil {
		return nil, err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: manifest, Size: i.Size}
	return readProof(ctx, d, image, func(ctx context.Context, d ocispec.Descriptor, limit int64) ([]byte, error) {
		if d.Size < 0 || d.Size > limit || d.Digest.Validate() != nil {
			return nil, fmt.Errorf("it is too large, or has no digest")
		}
		b, err := content.ReadBlob(ctx, blobs, d)
		if err == nil && digest.FromBytes(b) != d.Digest {
			err = fmt.Errorf("%s is damaged", short(d.Digest))
		}
		return b, err
	})
}
