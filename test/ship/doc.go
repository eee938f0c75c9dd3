// Package ship holds tests of the way of images between engines and registries, with real ones: Debian's docker-registry,
// skopeo, podman and the official client.
package ship
