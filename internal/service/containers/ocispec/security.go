package ocispec

import (
	"strconv"
	"strings"
)

// Default paths hidden or made read-only in unprivileged containers.
var (
	DefaultMaskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	DefaultReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// Security is a parsed --security-opt list.
type Security struct {
	NoNewPrivileges *bool
	Seccomp         string // "unconfined", "builtin", a profile's JSON, or empty
	AppArmor        string // a profile's name, "unconfined", or empty
	Labels          []string
	LabelDisable    bool
	WritableCgroups *bool
}

// ParseSecurity reads all forms of --security-opt, with "=" and with the old ":".
func ParseSecurity(opts []string) (Security, error) {
	var s Security
	for _, o := range opts {
		if o == "no-new-privileges" {
			yes := true
			s.NoNewPrivileges = &yes
			continue
		}
		if o == "disable" {
			s.LabelDisable = true
			continue
		}
		k, v, found := strings.Cut(o, "=")
		if !found {
			k, v, found = strings.Cut(o, ":")
		}
		if !found {
			return s, fail("invalid --security-opt 1: %q", o)
		}
		switch k {
		case "label":
			s.Labels = append(s.Labels, v)
			s.LabelDisable = s.LabelDisable || v == "disable"
		case "apparmor":
			s.AppArmor = v
		case "seccomp":
			s.Seccomp = v
		case "no-new-privileges", "writable-cgroups":
			b, err := strconv.ParseBool(v)
			if err != nil {
				return s, fail("invalid --security-opt 2: %q", o)
			}
			if k == "no-new-privileges" {
				s.NoNewPrivileges = &b
			} else {
				s.WritableCgroups = &b
			}
		default:
			return s, fail("invalid --security-opt 2: %q", o)
		}
	}
	return s, nil
}
