package networks

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// kind finds a driver by its name: a built-in one, or a plugin.
func (d Deps) kind(name string) (Kind, error) {
	switch kind := d.Kinds[name]; {
	case kind != nil:
		return kind, nil
	case name == "host" || name == "null":
		return nil, fmt.Errorf("only one instance of %q network is allowed: %w", name, errdefs.ErrPermissionDenied)
	case d.Plugins != nil:
		return d.Plugins.Kind(name), nil
	}
	return nil, fmt.Errorf("plugin %q not found: there is no network driver of this name, known are %s: %w",
		name, strings.Join(slices.Sorted(maps.Keys(d.Kinds)), ", "), errdefs.ErrNotFound)
}

// ipam finds an address management by its name: a built-in one, or a plugin.
func (d Deps) ipam(name string) (IPAM, error) {
	switch ipam := d.IPAM[name]; {
	case ipam != nil:
		return ipam, nil
	case d.Plugins != nil:
		return d.Plugins.IPAM(name), nil
	}
	return nil, fmt.Errorf("plugin %q not found: there is no address management of this name, known are %s: %w", name, strings.Join(slices.Sorted(maps.Keys(d.IPAM)), ", "), errdefs.ErrNotFound)
}
