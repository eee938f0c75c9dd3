//go:build !linux

package main

import (
	"fmt"
	"io"
	"runtime"
)

// run refuses: containers need Linux. The command line, gantry, works everywhere.
func run(_ []string, _, stderr io.Writer) int {
	fmt.Fprintf(stderr, "gantryd runs on Linux only, this is %s: use `gantry -H` with an engine on a Linux machine\n", runtime.GOOS)
	return 1
}
