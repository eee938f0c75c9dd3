// Package movein takes what a Docker data root holds over into a running engine, through the engine's API: images, networks, volumes
// and containers, in this order, since each needs those before it.
//
// Nothing is overwritten and nothing is taken twice: an image is known by the digest of its configuration, a volume by its content, a
// network by its addresses, a container by its configuration. So a run that was interrupted is repeated, and finds what is there.
// Layers go to the engine as a stream, out of the files they are kept in; the engine checks their digests, and so do we. The contents of
// volumes are copied from folder to folder, which keeps all that a tar archive would lose.
//
// What cannot be taken over is an item of the report like all others, and says why.
package movein
