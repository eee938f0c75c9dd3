package spec

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is a resolved, unpacked image of one platform, ready to run.
type Image struct {
	ID       digest.Digest // the image ID that users see: digest of the index or manifest (ADR 0002)
	Manifest digest.Digest // digest of the chosen platform's manifest
	// Media type and size, in bytes, of that manifest.
	MediaType string
	Size      int64
	Config    digest.Digest // digest of the configuration blob
	Name      string        // the reference it was found by, familiar form, or the ID
	Platform  ocispec.Platform
	Created   time.Time
	// Runtime is the image's configuration, with Docker's additions (health check, shell, on-build).
	Runtime ImageConfig
	// DiffIDs are the layers, lowest first. The layer store unpacked every one of them.
	DiffIDs []digest.Digest
}
