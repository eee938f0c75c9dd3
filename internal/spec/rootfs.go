package spec

// Rootfs says how a container's root file system is put together. It is a value,
// not yet a mount: gantry-init makes the mount inside the new mount namespace.
type Rootfs struct {
	// Lower are the layers' directories, uppermost first. Empty means that Path is used as it is.
	Lower []string
	// Upper and Work are overlayfs's writable directories; both empty means a read-only view.
	Upper string
	Work  string
	// Path is a plain directory to use as root (copying fall-back, OCI bundles).
	Path string
	// Options are further overlay options, as "key" or "key=value".
	Options []string
}

// Overlay tells whether the root is an overlay mount.
func (r Rootfs) Overlay() bool { return len(r.Lower) > 0 }
