//go:build !failpoints || !linux

package failpoint

// Hit does nothing: this is no test build.
func Hit(string) {}

// Env is what a process with a reduced environment must be given: nothing.
func Env() []string { return nil }
