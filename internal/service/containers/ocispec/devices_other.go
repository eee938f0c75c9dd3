//go:build !linux

package ocispec

import (
	"errors"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func deviceAt(string) (specs.LinuxDevice, bool, error) {
	return specs.LinuxDevice{}, false, errors.ErrUnsupported
}
