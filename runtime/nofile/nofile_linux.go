//go:build linux && (amd64 || arm64)

package nofile

// prlimit reads RLIMIT_NOFILE of the calling process. It returns the kernel's answer: 0 or a negative error number.
//
//go:noescape
func prlimit(limit *[2]uint64) (r int)

var original = atStart()

func atStart() uint64 {
	var l [2]uint64
	if prlimit(&l) != 0 {
		return 0
	}
	return l[0]
}

// Original is the soft limit that the process was started with, or 0 if it could not be read.
func Original() uint64 { return original }
