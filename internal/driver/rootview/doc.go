// Package rootview opens a container's file tree from the host, for docker cp and
// export. A running container's tree is reached through its init's root directory, so
// that its volumes and tmpfs are seen as it sees them and its writable layer is not mounted a second time.
// A stopped one's is put together in a private mount namespace: overlay and bind
// mounts are attached there and nowhere else, and go away with the view.
//
// Paths are resolved by the kernel inside the tree (openat2, RESOLVE_IN_ROOT) and
// objects are handled by descriptors: a container that swaps paths meanwhile never reaches the host.
package rootview
