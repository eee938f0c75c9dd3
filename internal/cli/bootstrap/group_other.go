//go:build !linux

package bootstrap

import "os/exec"

// inGroup and endGroup do nothing here, where mmdebstrap does not run.
func inGroup(*exec.Cmd)  {}
func endGroup(*exec.Cmd) {}
