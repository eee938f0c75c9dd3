//go:build linux

package main

import _ "unsafe" // for go:linkname

// runtimeArgs is what os.Args is made of; importing os would double the start-up time.
//
//go:linkname runtimeArgs os.runtime_args
func runtimeArgs() []string

// arguments are the socket's number, and whether init is parked: then a word that says so follows, and whose it is. Behind
// "--" stands the user's command, for those who look at PID 1's command line.
func arguments() (socket string, parked, ok bool) {
	args := runtimeArgs()
	if len(args) < 2 || len(args) > 2 && args[2] != "parked" && args[2] != "--" {
		return "", false, false
	}
	return args[1], len(args) > 2 && args[2] == "parked", true
}
