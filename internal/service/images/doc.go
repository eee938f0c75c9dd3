// Package images holds the use cases of images: resolve, list, inspect, history,
// tag, delete, prune, load, save, import and commit. Names and blobs are in
// containerd's stores behind the Content port, unpacked layers behind the Layers port. An index in
// memory answers what containers ask when they are created (Resolve), so that
// no disk is touched there.
//
// An image's ID is the digest of what its name points to, an index or a manifest
// (docs/adr/0002-image-id.md); the digest of its configuration finds it as well.
package images
