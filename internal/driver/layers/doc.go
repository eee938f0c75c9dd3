// Package layers is the layer store. Every layer of an image is unpacked once,
// under its diff ID, and containers stack these directories with overlayfs:
//
//	layers/<hex>/fs, meta       a layer by diff ID, or (fixed up) by chain ID
//	layers/<hex>.lazy/          a layer that is not here yet: fs leads to where it is served, see lazy
//	chains/<hex>                an image's stack of directories, by chain ID
//	containers/<id>/            upper, work; "chain" is a link whose target names the stack
//	volatile/<boot ID>/<id>/    the same, for auto-remove containers: gone after a reboot
//	stubs/                      what every container has below its image, see makeStubs
//	snapshots/                  what the Snapshotter interface made
//	spare/                      layers of containers to come, see spares
//	tmp/, trash/                being made, being deleted
//
// A layer is written below tmp/, the file system is synced once for a whole image, then
// directories get their names: what has a name is complete. A layer whose archive omits
// parent folders, or that links to files of layers below, cannot be unpacked alone: it is
// unpacked again on top of an overlay mount of those below, and kept under the chain ID.
//
// Containers pin layers by their link, without a commit in any database. Images
// pin theirs by being named in Collect.
//
// Where overlayfs does not work, the driver "copy" keeps one merged tree per chain
// ID and copies it for every container.
package layers
