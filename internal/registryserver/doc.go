// Package registryserver is the private registry: the distribution protocol's server side on a store of its own. It has no
// code; its parts are
//
//	flags, settings    a command line and a YAML file in, one configuration out
//	server             listeners, certificates, the access log, start and end; puts the parts together
//	protocol           requests decoded, the store called, answers encoded (distribution specification v1.1)
//	access             who asks, and what he may: htpasswd, tokens, rights per repository
//	storage            blobs, manifests and tags on disk; uploads; quotas; garbage collection
//	cache              repositories that are another registry's, filled when they are asked for
//	fromengine         an engine's images, taken over when they are asked for
//	hooks, web         what happened, told to others; what is there, shown to people
//	manifest, naming,
//	refusal            what a manifest refers to; names and patterns; the protocol's errors
//
// It runs as an executable of its own, gantry-registry: neither the engine nor the command line pays for it.
package registryserver
