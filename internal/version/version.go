// Package version tells which build this is. The linker sets the variables.
package version

import "runtime"

// Version is the release or "git describe" of the tree; Commit is the short hash.
var (
	Version = "dev"
	Commit  = "unknown"
)

// Go is the compiler's version.
func Go() string { return runtime.Version() }
