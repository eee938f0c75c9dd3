package manifest

import (
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's types.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

func isList(mediaType string) bool {
	return mediaType == dockerList || mediaType == ocispec.MediaTypeImageIndex
}

// list is a manifest list as it is shown and pushed. Names and order of its fields are docker's: the same entries make the same digest.
type list struct {
	SchemaVersion int    `json:"schemaVersion"`
	MediaType     string `json:"mediaType"`
	Manifests     []item `json:"manifests"`
}

type item struct {
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"`
	Digest    digest.Digest `json:"digest"`
	Platform  platform      `json:"platform"`
}

type platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
	Features     []string `json:"features,omitempty"`
}

// listOf puts entries together. The first one says whether it is a list of OCI's kind or of Docker's.
func listOf(entries []Entry) list {
	l := list{SchemaVersion: 2, MediaType: dockerList, Manifests: []item{}}
	for i, e := range entries {
		if i == 0 && e.Descriptor.MediaType == ocispec.MediaTypeImageManifest {
			l.MediaType = ocispec.MediaTypeImageIndex
		}
		it := item{MediaType: e.Descriptor.MediaType, Size: e.Descriptor.Size, Digest: e.Descriptor.Digest}
		if p := e.Descriptor.Platform; p != nil {
			it.Platform = platform{Architecture: p.Architecture, OS: p.OS, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures, Variant: p.Variant}
		}
		l.Manifests = append(l.Manifests, it)
	}
	return l
}

// bytes are the list as it is pushed.
func (l list) bytes() ([]byte, error) { return json.MarshalIndent(l, "", "   ") }

// architectures are those that images are made for, by operating system.
var architectures = map[string]string{
	"aix":       "ppc64",
	"android":   "386 amd64 arm arm64",
	"darwin":    "386 amd64 arm arm64",
	"dragonfly": "amd64",
	"freebsd":   "386 amd64 arm arm64 riscv64",
	"illumos":   "amd64",
	"ios":       "amd64 arm64",
	"js":        "wasm",
	"linux":     "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x",
	"netbsd":    "386 amd64 arm arm64",
	"openbsd":   "386 amd64 arm arm64 mips64 ppc64 riscv64",
	"plan9":     "386 amd64 arm",
	"solaris":   "amd64",
	"wasip1":    "wasm",
	"windows":   "386 amd64 arm arm64",
}

func made(os, architecture string) bool {
	for _, a := range strings.Fields(architectures[os]) {
		if a == architecture {
			return true
		}
	}
	return false
}
