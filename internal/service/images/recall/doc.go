// Package recall lets blobs of layers go that are there a second time, unpacked, and makes them again when somebody reads them.
//
//	an image is unpacked ─► Dropper: can each layer's blob be made again? ─► the shelf keeps a Recipe instead of the file
//	somebody reads it    ─► Maker: the layer's archive of its files, compressed as it was, or fetched again
//
// A blob is the archive itself (images that were imported, committed, or saved by an engine that does not compress), or
// the archive compressed by a Codec of ours, or what a registry gave. The first two are made again here; their digest
// proves it, before the file goes. The third is fetched again, so it only goes if anybody may fetch it.
package recall

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Recipe says how a blob without a file is made again: of the archive of the layer DiffID. One of Plain, Codec and Source is set, or the last two.
type Recipe struct {
	DiffID digest.Digest `json:"diffID"`
	// Plain: the blob is the archive.
	Plain bool `json:"plain,omitempty"`
	// Codec compresses the archive to the blob.
	Codec *Codec `json:"codec,omitempty"`
	// Source is the repository, by its canonical name, that gave the blob to everybody.
	Source string `json:"source,omitempty"`
}

// Blob is a blob that goes, with how it is made again.
type Blob struct {
	Digest digest.Digest
	Recipe Recipe
}

// Layers are the unpacked layers. Implemented by driver/layers.
type Layers interface {
	// Tar is the archive that a layer was unpacked from, byte for byte, made again of its files; ErrNotFound if it cannot be.
	// The layer stays while it is open.
	Tar(ctx context.Context, diffID digest.Digest) (io.ReadCloser, error)
	// Peek is Tar for who does not keep the layer from collection: reading fails if it goes meanwhile.
	Peek(ctx context.Context, diffID digest.Digest) (io.ReadCloser, error)
	// Prove makes the archive and compares its digest: ErrNotFound if there is nothing to make it of, ErrDataLoss if it is
	// another one. It does not keep the layer from collection.
	Prove(ctx context.Context, diffID digest.Digest) error
	// Hold keeps an image's layers from collection.
	Hold(diffIDs []digest.Digest) (release func())
}

// Shelf is the content store, seen as the place where blobs may be without a file. Implemented by driver/content.
type Shelf interface {
	// Recipe is how a blob without a file is made again.
	Recipe(d digest.Digest) (Recipe, bool)
	// Drop puts recipes in the place of files, in one commit. What the store does not have is left out.
	Drop(ctx context.Context, list []Blob) error
	// Enter puts a blob into the store, under ctx's lease, that never had a file.
	Enter(ctx context.Context, d ocispec.Descriptor, r Recipe) error
	// Source is the repository that gave a blob to everybody, or "".
	Source(ctx context.Context, d digest.Digest) string
	// Scratch makes a file that nobody else sees; its Close deletes it.
	Scratch() (Scratch, error)
}

// Scratch is a file for a blob that is made again.
type Scratch interface {
	io.Writer
	io.ReaderAt
	io.Closer
	// Reset drops what was written.
	Reset() error
}

// Sources are the registries. Implemented by service/images with driver/registry.
type Sources interface {
	// Fetch reads a blob from the repository of a canonical name, as anybody.
	Fetch(ctx context.Context, repository string, d ocispec.Descriptor) (io.ReadCloser, error)
}
