//go:build linux

package main

import _ "unsafe" // for go:linkname

// runtimeArgs is what os.Args is made of; importing os would double the start-up time.
//
//go:linkname runtimeArgs os.runtime_args
func runtimeArgs() []string

func argument() (string, bool) {
	args := runtimeArgs()
	if len(args) != 2 {
		return "", false
	}
	return args[1], true
}
