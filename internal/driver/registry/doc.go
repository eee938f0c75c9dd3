// Package registry is the engine's way to image registries: the distribution protocol's client side.
//
//	Client ── Open ──► Repository ── Resolve, Fetch ──► what a name means, manifests and blobs
//	                             └── Mount, Upload, Put ──► blobs and manifests on their way out
//
// A repository is reached over one or more hosts: mirrors first, the registry itself last. Every request goes through
// one door (exchange), which authorizes it, waits and tries again when the host is busy, and says in the end what the host
// answered. A transfer that breaks goes on where it broke: downloads by Range, uploads by asking the
// upload session how far it got.
//
// Hosts are configured in certs.d folders (Docker's certificate files, or hosts.toml) and by the daemon's options.
// Authorization, tokens included, and those files are containerd's packages.
package registry
