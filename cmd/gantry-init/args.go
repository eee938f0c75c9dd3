//go:build linux

package main

import _ "unsafe" // for go:linkname

// runtimeArgs is what os.Args is made of; importing os would double the start-up time.
//
//go:linkname runtimeArgs os.runtime_args
func runtimeArgs() []string

// arguments are the socket's number, and whether init is parked (a word that says so, and whose it is).
func arguments() (socket string, parked, ok bool) {
	args := runtimeArgs()
	if len(args) != 2 && len(args) != 4 {
		return "", false, false
	}
	return args[1], len(args) == 4, true
}
