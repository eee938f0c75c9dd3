//go:build !windows

package app

import "golang.org/x/term"

// rawOutput does nothing here: input and output are one terminal, and its input side was switched.
func rawOutput(int) (*term.State, error) { return nil, nil }
