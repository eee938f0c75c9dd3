package ocispec

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// DeviceFinder looks up device nodes: one for a node, all below for a directory.
type DeviceFinder func(path string) ([]specs.LinuxDevice, error)

// baseRules allow what every container may use: making nodes, and the harmless devices.
func baseRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	allow := func(t string, major, minor int64, access string) {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: t, Access: access}
		if major >= 0 {
			r.Major = &major
		}
		if minor >= 0 {
			r.Minor = &minor
		}
		rules = append(rules, r)
	}
	allow("c", -1, -1, "m")
	allow("b", -1, -1, "m")
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, -1}} {
		allow("c", d[0], d[1], "rwm")
	}
	return rules
}

func devicesOf(in Input) ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	find := in.Devices
	if find == nil {
		find = HostDevices
	}
	hc := in.HostConfig
	if hc.Privileged {
		devs, err := find("/dev")
		if err != nil {
			return nil, nil, err
		}
		devs, err = mapped(hc.Devices, find, devs, nil)
		return devs, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, err
	}
	rules := baseRules()
	devs, err := mapped(hc.Devices, find, nil, &rules)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range hc.DeviceCgroupRules {
		rule, err := ParseDeviceRule(r)
		if err != nil {
			return nil, nil, err
		}
		rules = append(rules, rule)
	}
	return devs, rules, nil
}

// mapped adds the devices asked for by --device, and rules that allow them.
func mapped(ms []container.DeviceMapping, find DeviceFinder, devs []specs.LinuxDevice, rules *[]specs.LinuxDeviceCgroup) ([]specs.LinuxDevice, error) {
	for _, m := range ms {
		found, err := find(m.PathOnHost)
		if err != nil {
			var pe *fs.PathError
			if errors.As(err, &pe) { // the path stands in the text already
				err = pe.Err
			}
			return nil, fail("error gathering device information while adding custom device %q: %v", m.PathOnHost, err)
		}
		target := m.PathInContainer
		if target == "" {
			target = m.PathOnHost
		}
		access := m.CgroupPermissions
		if access == "" {
			access = "rwm"
		}
		for _, d := range found {
			d.Path = target + strings.TrimPrefix(d.Path, m.PathOnHost)
			devs = append(devs, d)
			if rules != nil {
				major, minor := d.Major, d.Minor
				*rules = append(*rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &major, Minor: &minor, Access: access})
			}
		}
	}
	return devs, nil
}

var deviceRule = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// ParseDeviceRule reads a --device-cgroup-rule ("c 42:* rmw").
func ParseDeviceRule(s string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRule.FindStringSubmatch(s)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, fail("invalid device cgroup rule format: '%s'", s)
	}
	r := specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: m[4]}
	for i, dst := range []**int64{&r.Major, &r.Minor} {
		if t := m[2+i]; t != "*" {
			n, err := strconv.ParseInt(t, 10, 64)
			if err != nil {
				return r, fail("invalid value for a device number in '%s': %v", s, err)
			}
			*dst = &n
		}
	}
	return r, nil
}

// skipDev are folders of /dev that every container has of its own.
var skipDev = map[string]bool{"/dev/pts": true, "/dev/shm": true, "/dev/fd": true, "/dev/mqueue": true, "/dev/console": true, "/dev/.lxc": true, "/dev/.udev": true}

// HostDevices reads device nodes from the host.
func HostDevices(path string) ([]specs.LinuxDevice, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	if d, ok, err := deviceAt(resolved); err != nil {
		return nil, err
	} else if ok {
		d.Path = path
		return []specs.LinuxDevice{d}, nil
	}
	var out []specs.LinuxDevice
	err = filepath.WalkDir(resolved, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // a node that vanishes while we look is none
		}
		if skipDev[p] {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		if d, ok, err := deviceAt(p); err == nil && ok {
			d.Path = path + strings.TrimPrefix(p, resolved)
			out = append(out, d)
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = fail("%s is not a device node and has none below", path)
	}
	return out, err
}

// nodeNumbers are a device node's numbers.
func nodeNumbers(path string) (major, minor int64, ok bool) {
	d, ok, err := deviceAt(path)
	return d.Major, d.Minor, ok && err == nil
}
