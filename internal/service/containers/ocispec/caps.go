package ocispec

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerd/errdefs"
)

// allCaps are the kernel's capabilities; the index is the number (capability.h).
var allCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
	"CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// defaultCaps are what an unprivileged container gets.
var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
	"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// NormalizeCaps spells capabilities as the kernel does, upper case with CAP_,
// "ALL" kept. what ("CapAdd") is named in the error.
func NormalizeCaps(what string, caps []string) ([]string, error) {
	out := make([]string, 0, len(caps))
	for _, c := range caps {
		n := strings.ToUpper(c)
		if n != "ALL" {
			if !strings.HasPrefix(n, "CAP_") {
				n = "CAP_" + n
			}
			if !slices.Contains(allCaps, n) {
				return nil, fail("invalid %s: unknown capability: %q", what, c)
			}
		}
		out = append(out, n)
	}
	return out, nil
}

// Capabilities are what a container's process may have. bounding is the daemon's
// own bounding set (0 means all): what it lacks is left out of --privileged and
// ALL, and refused where it was asked for by name.
func Capabilities(hc *container.HostConfig, bounding uint64) ([]string, error) {
	grantable := func(c string) bool {
		return bounding == 0 || bounding&(1<<slices.Index(allCaps, c)) != 0
	}
	if hc.Privileged {
		return keep(allCaps, grantable), nil
	}
	add, err := NormalizeCaps("CapAdd", hc.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, err := NormalizeCaps("CapDrop", hc.CapDrop)
	if err != nil {
		return nil, err
	}
	for _, c := range add {
		if c != "ALL" && !grantable(c) {
			return nil, fail("cannot add capability %s: this host withholds it from the engine (it is not in the bounding set)", c)
		}
	}
	base := defaultCaps
	switch {
	case slices.Contains(add, "ALL"):
		base = allCaps
	case slices.Contains(drop, "ALL"):
		base = nil
	}
	dropped := func(c string) bool { return slices.Contains(drop, c) }
	out := keep(base, func(c string) bool { return !dropped(c) && grantable(c) })
	for _, c := range add {
		if c != "ALL" && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

// Withheld are the capabilities that --privileged or --cap-add ALL asks for and the host does not
// give. Those beyond the highest of the daemon's bounding set are ones that the kernel does not know.
func Withheld(hc *container.HostConfig, bounding uint64) []string {
	add, err := NormalizeCaps("CapAdd", hc.CapAdd)
	if err != nil || bounding == 0 || !hc.Privileged && !slices.Contains(add, "ALL") {
		return nil
	}
	known := allCaps[:min(bits.Len64(bounding), len(allCaps))]
	return keep(known, func(c string) bool { return bounding&(1<<slices.Index(allCaps, c)) == 0 })
}

func keep(list []string, want func(string) bool) []string {
	out := make([]string, 0, len(list))
	for _, c := range list {
		if want(c) {
			out = append(out, c)
		}
	}
	return out
}

func capabilitySets(caps []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

// optionError is an option that does not fit: the text alone, of class InvalidArgument.
type optionError string

func (e optionError) Error() string { return string(e) }
func (e optionError) Unwrap() error { return errdefs.ErrInvalidArgument }

func fail(format string, args ...any) error { return optionError(fmt.Sprintf(format, args...)) }
