package movein

import (
	"context"
	"net/url"

	"github.com/gantry-engine/gantry/internal/cli/api"
)

// Engine is the running engine. *api.Client is one.
type Engine interface {
	// Do sends a request; a status of 400 or more is an error.
	Do(ctx context.Context, req api.Request) (*api.Response, error)
	// Get, Post and Delete send JSON and decode the answer into out, which may be nil.
	Get(ctx context.Context, path string, q url.Values, out any) error
	Post(ctx context.Context, path string, q url.Values, in, out any) error
	Delete(ctx context.Context, path string, q url.Values, out any) error
	// Host is the engine's address.
	Host() string
}

// Progress is told how far something is, in bytes; a total of 0 is not known.
type Progress func(what, status string, done, total int64)
