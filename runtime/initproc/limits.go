//go:build linux

package initproc

import (
	"syscall"
	"unsafe"
)

const rlimitNofile = 7

// limits are the resource limits of the program.
type limits struct {
	nofile uint64 // soft limit of descriptors to be restored before exec; 0 leaves it
}

// set carries out OpRlimit.
func (l *limits) set(resource, soft, hard uint64) *failure {
	both := [2]uint64{soft, hard}
	_, e := call6(syscall.SYS_PRLIMIT64, 0, uintptr(resource), uintptr(unsafe.Pointer(&both)), 0, 0, 0)
	if e == syscall.EPERM {
		return failText("rlimit", itoa(int(resource)), e, cat("ulimit ", rlimitName(resource), ": the host withholds CAP_SYS_RESOURCE, so a hard limit cannot be raised: ", e.Error()))
	}
	if e != 0 {
		return fail("rlimit", rlimitName(resource), e)
	}
	if resource == rlimitNofile {
		l.nofile = 0 // as the configuration says
	}
	return nil
}

// restore takes back what Go's runtime did to the soft limit of descriptors, here and in the engine.
func (l *limits) restore() {
	if l.nofile == 0 {
		return
	}
	var have [2]uint64
	_, e := call6(syscall.SYS_PRLIMIT64, 0, rlimitNofile, 0, uintptr(unsafe.Pointer(&have)), 0, 0)
	if e == 0 && have[0] != l.nofile {
		have[0] = min(l.nofile, have[1])
		call6(syscall.SYS_PRLIMIT64, 0, rlimitNofile, uintptr(unsafe.Pointer(&have)), 0, 0, 0)
	}
}

// soft gives the soft limit of descriptors that the program is to have: Go raises it in the next gantry-init again.
func (l *limits) soft() uint64 {
	if l.nofile != 0 {
		return l.nofile
	}
	var have [2]uint64
	call6(syscall.SYS_PRLIMIT64, 0, rlimitNofile, 0, uintptr(unsafe.Pointer(&have)), 0, 0)
	return have[0]
}

func rlimitName(r uint64) string {
	names := [...]string{"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"}
	if r < uint64(len(names)) {
		return names[r]
	}
	return itoa(int(r))
}
