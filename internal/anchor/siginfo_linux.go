package anchor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// asSiginfo gives the part that waitid fills, as 64-bit machines lay it out.
func asSiginfo(info *unix.Siginfo) *siginfo { return (*siginfo)(unsafe.Pointer(info)) }
