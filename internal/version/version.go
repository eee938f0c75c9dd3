// Package version tells which build this is. The linker sets the variables.
package version

import "runtime"

// Version is the release or "git describe" of the tree, Commit the short hash, Built the
// commit's time (RFC 3339): the same tree gives the same executable.
var (
	Version = "dev"
	Commit  = "unknown"
	Built   = ""
)

// Go is the compiler's version.
func Go() string { return runtime.Version() }
