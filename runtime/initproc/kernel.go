//go:build linux

package initproc

import (
	"syscall"
	"unsafe"
)

// kernelBefore reads the running kernel's release. One that cannot be read counts as old.
func kernelBefore(major, minor int) bool {
	var u syscall.Utsname
	if _, e := call(syscall.SYS_UNAME, uintptr(unsafe.Pointer(&u)), 0, 0); e != 0 {
		return true
	}
	var have [2]int
	part := 0
	for _, c := range u.Release {
		if c == '.' && part == 0 {
			part = 1
		} else if c >= '0' && c <= '9' {
			have[part] = have[part]*10 + int(c-'0')
		} else {
			break
		}
	}
	return have[0] < major || have[0] == major && have[1] < minor
}
