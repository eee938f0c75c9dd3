// Package manifest reads manifests: which of the known types one is, and what it refers to. It reads what strangers send.
package manifest

import (
	"encoding/json"
	"mime"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// MaxSize bounds a manifest, in bytes: the least that the specification lets a registry take.
const MaxSize = 4 << 20

// maxReferences bounds what one manifest may refer to.
const maxReferences = 20_000

// Types of Docker's schema 2; the others are in ocispec.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	schema1        = "application/vnd.docker.distribution.manifest.v1+"
)

// Kind is what a reference is to the manifest that has it.
type Kind string

// The kinds.
const (
	Config Kind = "config"
	Layer  Kind = "layer"
	Child  Kind = "child" // a manifest of an index
)

// Reference is something a manifest refers to.
type Reference struct {
	Kind      Kind              `json:"kind"`
	Digest    digest.Digest     `json:"digest"`
	Size      int64             `json:"size"`
	MediaType string            `json:"mediaType,omitempty"`
	Platform  *ocispec.Platform `json:"platform,omitempty"`
	Elsewhere bool              `json:"elsewhere,omitempty"` // a foreign layer: it need not be here
}

// Manifest is what the registry knows of a manifest.
type Manifest struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"` // as the referrers list shows it
	Annotations  map[string]string `json:"annotations,omitempty"`
	Subject      digest.Digest     `json:"subject,omitempty"`
	References   []Reference       `json:"references,omitempty"`
}

// Index tells whether a media type is an index's.
func Index(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerList
}

// document is every field of all known types.
type document struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	ArtifactType  string               `json:"artifactType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Subject       *ocispec.Descriptor  `json:"subject"`
	Annotations   map[string]string    `json:"annotations"`
	FSLayers      json.RawMessage      `json:"fsLayers"`
}

// Parse reads a manifest that was sent with a Content-Type, which may be empty.
func Parse(contentType string, body []byte) (*Manifest, error) {
	if len(body) > MaxSize {
		return nil, refusal.ManifestTooLarge.New("the manifest has more than %d bytes", MaxSize)
	}
	declared := ""
	if contentType != "" {
		t, _, err := mime.ParseMediaType(contentType)
		if err != nil {
			return nil, refusal.ManifestInvalid.New("the Content-Type %q cannot be read: %w", contentType, err)
		}
		declared = t
	}
	if strings.HasPrefix(declared, schema1) {
		return nil, errSchema1()
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, refusal.ManifestInvalid.New("the manifest is no JSON that can be read: %w", err)
	}
	if doc.SchemaVersion == 1 || doc.FSLayers != nil {
		return nil, errSchema1()
	}
	if doc.SchemaVersion != 2 {
		return nil, refusal.ManifestInvalid.New("the manifest's schemaVersion is %d; 2 is needed", doc.SchemaVersion)
	}
	m := &Manifest{MediaType: declared, ArtifactType: doc.ArtifactType, Annotations: doc.Annotations}
	if m.MediaType == "" || m.MediaType == "application/json" {
		m.MediaType = doc.MediaType
	}
	if doc.MediaType != "" && doc.MediaType != m.MediaType {
		return nil, refusal.ManifestInvalid.New("the manifest says that it is %q, and its Content-Type that it is %q", doc.MediaType, m.MediaType)
	}
	if err := m.fill(&doc); err != nil {
		return nil, err
	}
	return m, nil
}

func errSchema1() error {
	return refusal.ManifestInvalid.New("the manifest is of Docker's schema 1, which is not taken: push it again with a client that makes schema 2 or OCI manifests")
}

// fill takes over what the manifest refers to, by its type.
func (m *Manifest) fill(doc *document) error {
	var err error
	add := func(kind Kind, list ...ocispec.Descriptor) {
		for _, d := range list {
			if err == nil {
				err = m.add(kind, d)
			}
		}
	}
	switch m.MediaType {
	case ocispec.MediaTypeImageManifest, DockerManifest:
		if doc.Config == nil {
			return refusal.ManifestInvalid.New("the manifest has no config")
		}
		if len(doc.Manifests) > 0 {
			return refusal.ManifestInvalid.New("the manifest of type %s has manifests, as an index has", m.MediaType)
		}
		add(Config, *doc.Config)
		add(Layer, doc.Layers...)
		if m.ArtifactType == "" {
			m.ArtifactType = doc.Config.MediaType
		}
	case ocispec.MediaTypeImageIndex, DockerList:
		if doc.Config != nil || len(doc.Layers) > 0 {
			return refusal.ManifestInvalid.New("the index of type %s has a config or layers, as a manifest has", m.MediaType)
		}
		add(Child, doc.Manifests...)
	case "":
		return refusal.ManifestInvalid.New("neither Content-Type nor mediaType says what the manifest is")
	default:
		return refusal.ManifestInvalid.New("manifests of the type %q are not known here: OCI manifests and indexes and those of Docker's schema 2 are", m.MediaType)
	}
	if err != nil {
		return err
	}
	if doc.Subject != nil {
		if m.Subject, err = naming.Digest(doc.Subject.Digest.String()); err != nil {
			return refusal.ManifestInvalid.New("the manifest's subject: %w", err)
		}
	}
	return nil
}

func (m *Manifest) add(kind Kind, d ocispec.Descriptor) error {
	if len(m.References) >= maxReferences {
		return refusal.ManifestInvalid.New("the manifest refers to more than %d blobs and manifests", maxReferences)
	}
	if _, err := naming.Digest(d.Digest.String()); err != nil {
		return refusal.ManifestInvalid.New("the manifest's %s: %w", kind, err)
	}
	if d.Size < 0 {
		return refusal.ManifestInvalid.New("the manifest says that %s has %d bytes", d.Digest, d.Size)
	}
	if kind == Child && strings.HasPrefix(d.MediaType, schema1) {
		return errSchema1()
	}
	m.References = append(m.References, Reference{Kind: kind, Digest: d.Digest, Size: d.Size, MediaType: d.MediaType, Platform: d.Platform, Elsewhere: kind == Layer && elsewhere(d)})
	return nil
}

// elsewhere tells a layer that its maker wants to be fetched from him.
func elsewhere(d ocispec.Descriptor) bool {
	// OCI's types for such layers are out of use, and still pushed.
	if d.MediaType == dockerForeign || strings.HasPrefix(d.MediaType, "application/vnd.oci.image.layer.nondistributable.") {
		return true
	}
	return len(d.URLs) > 0
}
