//go:build !linux

// Command gantry-import does the work of `gantry system import-docker`.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "gantry-import runs on Linux only: it reads the files of a Docker engine")
	os.Exit(1)
}
