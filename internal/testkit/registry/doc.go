// Package registry is an image registry in memory for tests: the distribution protocol's server side on the loopback
// interface, which does what a test tells it to get wrong, and remembers what it was asked.
//
//	reg := registry.New(t)
//	image := reg.AddImage("app", "1", registry.Image{Layers: [][]byte{tar}})
//	reg.Break(registry.Fault{Method: "GET", Path: "/blobs/", Cut: 1000, Times: 3})
//	... pull reg.Host + "/app:1" ...
//	if registry.Twice(reg.Requests("GET", "/blobs/")) >= 0 { ... }
//
// It is strict where real registries are: an upload goes on only where it stopped and only at the location that was given
// last, a token is good for the scopes it was asked for, and a repository has only the blobs that came into it.
package registry
