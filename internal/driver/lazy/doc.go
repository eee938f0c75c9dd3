// Package lazy serves layers that are not here: gantryd's side of gantry-lazy (internal/lazyproto, docs/adr/0010-lazy-start.md).
//
//	<data root>/lazy/<hex>/layer.json   a layer that is served until it is here: what it is, by the digest of its blob
//	                       blob, have   its bytes as far as they are here; gantry-lazy's
//	<exec root>/lazy/<hex>/             where it is mounted
//
// The driver starts gantry-lazy with the first layer, holds copies of the descriptors of all sessions, and gives them to the next
// gantry-lazy when one ends. When a blob is whole it goes the way of all blobs, into the content store and the layer
// store; when nothing stands on a layer as it is served any more (Drop), its mount and its folder go. Containers
// that were started on it go on using it, and with the last of them gantry-lazy ends.
//
// After a restart of gantryd the layers are found by their folders; after a reboot they are mounted again, with
// what is here of them. The credentials they were pulled with are not kept: a registry that wants some has to be asked by
// another pull.
package lazy
