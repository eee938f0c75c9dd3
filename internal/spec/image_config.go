package spec

import (
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// ImageConfig is the part of an image's configuration that a container inherits.
type ImageConfig = dockerspec.DockerOCIImageConfig
