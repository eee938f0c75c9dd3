// Package overlayfs makes overlay mounts that are attached nowhere: the host's
// mount table stays as it is, and the mount is gone when its descriptor is closed.
package overlayfs
