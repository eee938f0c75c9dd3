// Package images holds the use cases of images: resolve, list, inspect, history,
// tag, delete, prune, load, save, import and commit. Names and blobs are in
// containerd's stores behind the Content port, unpacked layers behind the Layers port. An index in
// memory answers what containers ask when they are created (Resolve), so that
// no disk is touched there.
//
// Two rooms are below all use cases: the catalog (which images there are, by name and
// digest) and the blobs (what they are made of). A third one, the announcer, tells what happened.
// What needs no image is in packages below: instructions applies --change to a configuration.
//
// An image's ID is the digest of what its name points to, an index or a manifest
// (docs/adr/0002-image-id.md); the digest of its configuration finds it as well.
package images
