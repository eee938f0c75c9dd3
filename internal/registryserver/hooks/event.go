// Package hooks tells others what happened in the registry: events go to webhooks, signed, again and again until they are
// taken or too old.
package hooks

import "time"

// Event is one thing that happened, in the form that Docker's registry sends: what reads those reads these.
type Event struct {
	ID        string    `json:"id"`
	Timestamp time.Time `json:"timestamp"`
	Action    Action    `json:"action"`
	Target    Target    `json:"target"`
	Request   Request   `json:"request"`
	Actor     Actor     `json:"actor"`
	Source    Source    `json:"source"`
}

// Action is what happened.
type Action string

// The actions.
const (
	Push   Action = "push"
	Pull   Action = "pull"
	Delete Action = "delete"
	Mount  Action = "mount"
)

// Target is what it happened to.
type Target struct {
	MediaType      string `json:"mediaType,omitempty"`
	Digest         string `json:"digest,omitempty"`
	Size           int64  `json:"size,omitempty"` // bytes
	Length         int64  `json:"length,omitempty"`
	Repository     string `json:"repository"`
	FromRepository string `json:"fromRepository,omitempty"` // of a mount
	URL            string `json:"url,omitempty"`
	Tag            string `json:"tag,omitempty"`
}

// Request is the request that did it.
type Request struct {
	ID        string `json:"id,omitempty"`
	Addr      string `json:"addr,omitempty"`
	Host      string `json:"host,omitempty"`
	Method    string `json:"method,omitempty"`
	UserAgent string `json:"useragent,omitempty"`
}

// Actor is who did it.
type Actor struct {
	Name string `json:"name,omitempty"`
}

// Source is the registry.
type Source struct {
	Addr       string `json:"addr,omitempty"`
	InstanceID string `json:"instanceID,omitempty"`
}
