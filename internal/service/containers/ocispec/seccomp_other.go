//go:build !linux

package ocispec

import specs "github.com/opencontainers/runtime-spec/specs-go"

// ValidSeccomp tells whether text is a profile that can be used: nowhere but on Linux.
func ValidSeccomp(string) error { return fail("seccomp profiles work on Linux only") }

func seccompOf(string, string, bool, bool, *specs.Spec) (*specs.LinuxSeccomp, error) { return nil, nil }
