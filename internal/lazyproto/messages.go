package lazyproto

import (
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
)

// Layer is a layer to be served.
type Layer struct {
	Digest    digest.Digest `json:"digest"` // of the blob
	Size      int64         `json:"size"`   // of the blob, in bytes
	MediaType string        `json:"mediaType"`
	DiffID    digest.Digest `json:"diffID"`
	TOC       digest.Digest `json:"toc"` // of the table of contents, as the manifest has it
	// Lowest layers may imply folders that their archive does not describe.
	Lowest bool `json:"lowest,omitempty"`
	// Image is the name that the layer was pulled by, with host and tag.
	Image string `json:"image"`
	// Source is the repository if it gives the layer to everybody.
	Source string `json:"source,omitempty"`
}

// Place is where a layer's bytes are kept, and where it is mounted.
type Place struct {
	Cache string `json:"cache"` // a folder on disk: blob, have
	Mount string `json:"mount"` // an empty folder
}

// Access is how the registry is reached, and as whom.
type Access struct {
	Auth      registry.AuthConfig `json:"auth"`
	Default   string              `json:"default,omitempty"`
	Mirrors   []string            `json:"mirrors,omitempty"`
	Insecure  []string            `json:"insecure,omitempty"`
	CertDirs  []string            `json:"certDirs,omitempty"`
	Attempts  int                 `json:"attempts,omitempty"`
	UserAgent string              `json:"userAgent,omitempty"`
}

// The requests.
const (
	OpList    = "list"
	OpServe   = "serve"
	OpCopy    = "copy"
	OpAdopt   = "adopt"
	OpRelease = "release"
	OpLeave   = "leave"
)

// Request is a message to gantry-lazy.
type Request struct {
	ID     uint64        `json:"id"`
	Op     string        `json:"op"`
	Layer  *Layer        `json:"layer,omitempty"`
	Place  *Place        `json:"place,omitempty"`
	Access *Access       `json:"access,omitempty"`
	Digest digest.Digest `json:"digest,omitempty"`
	Note   []byte        `json:"note,omitempty"`  // what the kernel said when the session began
	Whole  bool          `json:"whole,omitempty"` // the blob is here and verified
}

// The events.
const (
	EventWhole  = "whole"  // the blob is here, and has its digest
	EventStuck  = "stuck"  // the fill stands still: Error; empty: it goes on
	EventLies   = "lies"   // the blob will never have its digest
	EventUnread = "unread" // a read was answered with an error
	EventEnded  = "ended"  // nobody uses the layer's mount any more
)

// Answer is a message of gantry-lazy: the answer to the request with its ID, or an event.
type Answer struct {
	ID      uint64        `json:"id,omitempty"`
	Event   string        `json:"event,omitempty"`
	Digest  digest.Digest `json:"digest,omitempty"`
	Error   string        `json:"error,omitempty"`
	Unfit   bool          `json:"unfit,omitempty"` // the layer, the registry or the kernel cannot: pull it the ordinary way
	Note    []byte        `json:"note,omitempty"`
	Size    int64         `json:"size,omitempty"` // of a layer's files, in bytes
	Entries int64         `json:"entries,omitempty"`
	Version string        `json:"version,omitempty"`
	Held    []Held        `json:"held,omitempty"`
}

// Held is a layer that is served.
type Held struct {
	Layer Layer `json:"layer"`
	Place Place `json:"place"`
	Here  int64 `json:"here"` // bytes
	// Fetched are those of Here that came in with this process, in bytes.
	Fetched  int64  `json:"fetched"`
	Whole    bool   `json:"whole,omitempty"`
	Released bool   `json:"released,omitempty"`
	Stuck    string `json:"stuck,omitempty"`
}
