package httpapi

import (
	"net/http"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
)

// RegistryAuth is what a request brings for a registry (X-Registry-Auth). As in Docker, what cannot be read is none: the
// registry then says that it wants credentials.
func RegistryAuth(r *http.Request) registry.AuthConfig {
	a, err := authconfig.Decode(r.Header.Get(registry.AuthHeader))
	if err != nil || a == nil {
		return registry.AuthConfig{}
	}
	return *a
}
