package opts

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

// CheckAttach accepts STDIN, STDOUT and STDERR in any case.
func CheckAttach(v string) (string, error) {
	s := strings.ToLower(v)
	switch s {
	case "stdin", "stdout", "stderr":
		return s, nil
	}
	return v, errors.New("valid streams are STDIN, STDOUT and STDERR")
}

// CheckIP accepts an IP address.
func CheckIP(v string) (string, error) {
	ip, err := netip.ParseAddr(strings.TrimSpace(v))
	if err != nil || ip.Zone() != "" {
		return "", fmt.Errorf("IP address is not correctly formatted: %s", v)
	}
	return ip.String(), nil
}

// CheckDNSSearch accepts a domain, or "." for none.
func CheckDNSSearch(v string) (string, error) {
	v = strings.TrimSpace(v)
	if v == "." {
		return v, nil
	}
	if !hasLetter(v) {
		return "", fmt.Errorf("%s is not a valid domain", v)
	}
	labels := strings.Split(strings.TrimSuffix(v, "."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}) {
			return "", fmt.Errorf("%s is not a valid domain", v)
		}
	}
	if len(v) > 255 {
		return "", fmt.Errorf("%s is not a valid domain", v)
	}
	return v, nil
}

func hasLetter(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' })
}

// CheckExtraHost accepts name:ip and name=ip, and host-gateway for the address.
func CheckExtraHost(v string) (string, error) {
	k, ip, ok := strings.Cut(v, "=")
	if !ok {
		k, ip, ok = strings.Cut(v, ":")
	}
	if !ok || k == "" {
		return "", fmt.Errorf("bad format for add-host: %q", v)
	}
	if len(ip) > 2 && ip[0] == '[' && ip[len(ip)-1] == ']' {
		ip = ip[1 : len(ip)-1]
	}
	if ip != "host-gateway" {
		if _, err := CheckIP(ip); err != nil {
			return "", fmt.Errorf("invalid IP address in add-host: %q", ip)
		}
	}
	return k + ":" + ip, nil
}

// CheckLink accepts name and name:alias.
func CheckLink(v string) (string, error) {
	if v == "" {
		return v, errors.New("empty string specified for links")
	}
	if strings.Count(v, ":") > 1 {
		return v, fmt.Errorf("bad format for links: %s", v)
	}
	return v, nil
}

// CheckSysctl accepts the settings that belong to a container's namespaces.
func CheckSysctl(v string) (string, error) {
	k, _, ok := strings.Cut(v, "=")
	if ok {
		switch k {
		case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
			return v, nil
		}
		if strings.HasPrefix(k, "net.") || strings.HasPrefix(k, "fs.mqueue.") {
			return v, nil
		}
	}
	return "", fmt.Errorf("sysctl '%s' is not allowed", v)
}

// Ulimits collects --ulimit, the last of a name winning.
type Ulimits map[string]*units.Ulimit

// Set reads name=soft[:hard].
func (u *Ulimits) Set(v string) error {
	l, err := units.ParseUlimit(v)
	if err != nil {
		return err
	}
	if *u == nil {
		*u = Ulimits{}
	}
	(*u)[l.Name] = l
	return nil
}

// Type names the value in help texts.
func (u *Ulimits) Type() string { return "ulimit" }

func (u *Ulimits) String() string {
	if len(*u) == 0 {
		return ""
	}
	return fmt.Sprint(u.List())
}

// List is the limits, sorted by name.
func (u *Ulimits) List() []*units.Ulimit {
	var out []*units.Ulimit
	for _, k := range sortedKeys(*u) {
		out = append(out, (*u)[k])
	}
	return out
}

// WeightDevices collects --blkio-weight-device.
type WeightDevices []*blkiodev.WeightDevice

// Set reads path:weight.
func (w *WeightDevices) Set(v string) error {
	dev, n, ok := strings.Cut(v, ":")
	if !ok || dev == "" {
		return fmt.Errorf("bad format: %s", v)
	}
	if !strings.HasPrefix(dev, "/dev/") {
		return fmt.Errorf("bad format for device path: %s", v)
	}
	x, err := strconv.ParseUint(n, 10, 16)
	if err != nil || x > 0 && (x < 10 || x > 1000) {
		return fmt.Errorf("invalid weight for device: %s", v)
	}
	*w = append(*w, &blkiodev.WeightDevice{Path: dev, Weight: uint16(x)})
	return nil
}

// Type names the value in help texts.
func (w *WeightDevices) Type() string { return "list" }

func (w *WeightDevices) String() string {
	if len(*w) == 0 {
		return ""
	}
	return fmt.Sprint(*w)
}

// ThrottleDevices collects --device-{read,write}-{bps,iops}.
type ThrottleDevices struct {
	Bytes bool // rates are sizes such as 1mb
	List  []*blkiodev.ThrottleDevice
}

// Set reads path:rate.
func (t *ThrottleDevices) Set(v string) error {
	dev, rate, ok := strings.Cut(v, ":")
	if !ok || dev == "" {
		return fmt.Errorf("bad format: %s", v)
	}
	if !strings.HasPrefix(dev, "/dev/") {
		return fmt.Errorf("bad format for device path: %s", v)
	}
	var n uint64
	var err error
	if t.Bytes {
		var x int64
		if x, err = units.RAMInBytes(rate); err != nil || x < 0 {
			return fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb", v)
		}
		n = uint64(x)
	} else if n, err = strconv.ParseUint(rate, 10, 64); err != nil {
		return fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>. Number must be a positive integer", v)
	}
	t.List = append(t.List, &blkiodev.ThrottleDevice{Path: dev, Rate: n})
	return nil
}

// Type names the value in help texts.
func (t *ThrottleDevices) Type() string { return "list" }

func (t *ThrottleDevices) String() string {
	if len(t.List) == 0 {
		return ""
	}
	return fmt.Sprint(t.List)
}

// CheckDeviceCgroupRule accepts "c 1:3 rwm" and the like.
func CheckDeviceCgroupRule(v string) (string, error) {
	bad := fmt.Errorf("invalid device cgroup format '%s'", v)
	w := strings.Split(v, " ")
	if len(w) != 3 || w[0] != "a" && w[0] != "b" && w[0] != "c" || w[2] == "" || len(w[2]) > 3 || strings.Trim(w[2], "rwm") != "" {
		return "", bad
	}
	maj, min, ok := strings.Cut(w[1], ":")
	for _, n := range []string{maj, min} {
		if _, err := strconv.ParseUint(n, 10, 64); err != nil && n != "*" {
			return "", bad
		}
	}
	if !ok {
		return "", bad
	}
	return v, nil
}

// CheckDevice accepts host[:container][:mode] and CDI names.
func CheckDevice(v, serverOS string) (string, error) {
	if serverOS == "windows" || CDIDevice(v) {
		return v, nil
	}
	parts := strings.Split(v, ":")
	if len(parts) > 3 || v == "" {
		return v, fmt.Errorf("bad format for path: %s", v)
	}
	target := parts[0]
	switch {
	case len(parts) == 3 && validDeviceMode(parts[2]):
		target = parts[1]
	case len(parts) == 3:
		return v, fmt.Errorf("bad mode specified: %s", parts[2])
	case len(parts) == 2 && !validDeviceMode(parts[1]):
		target = parts[1]
	}
	if !path.IsAbs(target) {
		return v, fmt.Errorf("%s is not an absolute path", target)
	}
	return v, nil
}

// CDIDevice says whether a name is of the form vendor.com/class=name.
func CDIDevice(v string) bool {
	kind, name, ok := strings.Cut(v, "=")
	vendor, class, ok2 := strings.Cut(kind, "/")
	return ok && ok2 && vendor != "" && class != "" && name != "" && !strings.Contains(class, "/") && hasLetter(vendor[:1])
}

func validDeviceMode(m string) bool {
	seen := map[rune]bool{}
	for _, r := range m {
		if r != 'r' && r != 'w' && r != 'm' || seen[r] {
			return false
		}
		seen[r] = true
	}
	return m != ""
}

// ParseDevice takes a --device value apart.
func ParseDevice(v, serverOS string) (container.DeviceMapping, error) {
	m := container.DeviceMapping{CgroupPermissions: "rwm"}
	if serverOS == "windows" {
		return container.DeviceMapping{PathOnHost: v}, nil
	}
	parts := strings.Split(v, ":")
	switch len(parts) {
	case 3:
		m.CgroupPermissions = parts[2]
		fallthrough
	case 2:
		if validDeviceMode(parts[1]) {
			m.CgroupPermissions = parts[1]
		} else {
			m.PathInContainer = parts[1]
		}
		fallthrough
	case 1:
		m.PathOnHost = parts[0]
	default:
		return m, fmt.Errorf("invalid device specification: %s", v)
	}
	if m.PathInContainer == "" {
		m.PathInContainer = m.PathOnHost
	}
	return m, nil
}

// ParseRestart reads no, always, unless-stopped and on-failure[:n].
func ParseRestart(v string) (container.RestartPolicy, error) {
	if v == "" {
		return container.RestartPolicy{}, nil
	}
	name, count, has := strings.Cut(v, ":")
	if has && name == "" {
		return container.RestartPolicy{}, errors.New("invalid restart policy format: no policy provided before colon")
	}
	p := container.RestartPolicy{Name: container.RestartPolicyMode(name)}
	if count != "" {
		n, err := strconv.Atoi(count)
		if err != nil {
			return container.RestartPolicy{}, errors.New("invalid restart policy format: maximum retry count must be an integer")
		}
		p.MaximumRetryCount = n
	}
	return p, nil
}
