// Package sibling finds the engine's other executables: beside this one where all lie in one folder (bin/ of a
// checkout), and where an installation puts those that nobody calls by hand.
package sibling

import (
	"os"
	"path/filepath"
	"runtime"
)

// places are looked at last, for an executable that was copied away from the others.
var places = []string{"/usr/libexec/gantry", "/usr/lib/gantry", "/usr/local/bin", "/usr/bin"}

// Path gives the path of the executable name, or name itself where there is none: whoever executes it says so.
func Path(name string) string {
	self, err := os.Executable()
	if err != nil {
		self = ""
	}
	return find(self, name)
}

func find(self, name string) string {
	var dirs []string
	if self != "" {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		dirs = append(dirs, filepath.Dir(self), filepath.Join(filepath.Dir(self), "..", "libexec", "gantry"))
	}
	file, executable := name, os.FileMode(0o111)
	if runtime.GOOS == "windows" { // where the name says it, not a bit
		file, executable = name+".exe", 0o444
	}
	for _, dir := range append(dirs, places...) {
		path := filepath.Join(dir, file)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&executable != 0 {
			return path
		}
	}
	return name
}
