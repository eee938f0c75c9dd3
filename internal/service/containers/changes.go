package containers

import (
	"context"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// stubs are the places that every start makes to mount something on, where the image lacks them.
var stubs = []string{
	"/dev", "/dev/console", "/dev/mqueue", "/dev/pts", "/dev/shm", "/etc", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys",
}

const (
	modified ChangeKind = iota
	added
)

// Changes lists what differs from the image, but for what the engine itself made.
func (c *copier) Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	e, err := c.reg.get(ref)
	if err != nil {
		return nil, err
	}
	list, err := c.Layers.Changes(ctx, e.id)
	if err != nil {
		return nil, err
	}
	list = withoutStubs(list)
	out := make([]container.FilesystemChange, 0, len(list))
	for _, ch := range list {
		out = append(out, container.FilesystemChange{Path: ch.Path, Kind: container.ChangeType(ch.Kind)})
	}
	return out, nil
}

// withoutStubs drops added stubs, and the folders that differ only because stubs were made in them.
func withoutStubs(list []Change) []Change {
	below := func(dir string, in []Change) bool {
		return slices.ContainsFunc(in, func(c Change) bool { return strings.HasPrefix(c.Path, dir+"/") })
	}
	folder := func(c Change) bool { return c.Path == "/etc" || c.Path == "/dev" }
	kept := slices.DeleteFunc(slices.Clone(list), func(c Change) bool {
		return c.Kind == added && !folder(c) && slices.Contains(stubs, c.Path)
	})
	return slices.DeleteFunc(slices.Clone(kept), func(c Change) bool {
		return folder(c) && !below(c.Path, kept) && (c.Kind == added || c.Kind == modified && below(c.Path, list))
	})
}
