package opts

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// Attachment is one --network: a name, or name=…,alias=… and further settings.
type Attachment struct {
	Target       string
	Aliases      []string
	DriverOpts   map[string]string
	Links        []string
	IPv4         netip.Addr
	IPv6         netip.Addr
	LinkLocalIPs []netip.Addr
	MacAddress   string
	GwPriority   int
}

// Networks collects --network.
type Networks struct{ List []Attachment }

// Type names the value in help texts.
func (n *Networks) Type() string { return "network" }

func (n *Networks) String() string { return "" }

// Mode is what the container's main network is.
func (n *Networks) Mode() container.NetworkMode {
	if len(n.List) > 0 {
		return container.NetworkMode(n.List[0].Target)
	}
	return network.NetworkDefault
}

// Set reads one attachment.
func (n *Networks) Set(v string) error {
	a := Attachment{}
	if !strings.Contains(v, "=") {
		a.Target = v
		n.List = append(n.List, a)
		return nil
	}
	fields, err := csvFields(v)
	if err != nil {
		return err
	}
	for _, f := range fields {
		key, val, ok := strings.Cut(strings.ToLower(f), "=")
		if !ok || key == "" {
			return fmt.Errorf("invalid field %s", f)
		}
		key, val = strings.TrimSpace(key), strings.TrimSpace(val)
		switch key {
		case "name":
			a.Target = val
		case "alias":
			a.Aliases = append(a.Aliases, val)
		case "ip":
			if a.IPv4, err = netip.ParseAddr(val); err != nil {
				return err
			}
		case "ip6":
			if a.IPv6, err = netip.ParseAddr(val); err != nil {
				return err
			}
		case "mac-address":
			if err := CheckMAC(val); err != nil {
				return err
			}
			a.MacAddress = val
		case "link-local-ip":
			ip, err := netip.ParseAddr(val)
			if err != nil {
				return err
			}
			a.LinkLocalIPs = append(a.LinkLocalIPs, ip)
		case "driver-opt":
			k, v, ok := strings.Cut(val, "=")
			if !ok || k == "" {
				return fmt.Errorf("invalid key value pair format in driver options")
			}
			if a.DriverOpts == nil {
				a.DriverOpts = map[string]string{}
			}
			a.DriverOpts[strings.TrimSpace(k)] = strings.TrimSpace(v)
		case "gw-priority":
			if a.GwPriority, err = strconv.Atoi(val); err != nil {
				return fmt.Errorf("invalid gw-priority (%s): %w", val, errors.Unwrap(err))
			}
		default:
			return fmt.Errorf("invalid field key %s", key)
		}
	}
	if a.Target == "" {
		return errors.New("network name/id is not specified")
	}
	n.List = append(n.List, a)
	return nil
}

// CheckMAC refuses what is no hardware address.
func CheckMAC(v string) error {
	var h network.HardwareAddr
	if err := h.UnmarshalText([]byte(v)); err != nil || len(h) == 0 {
		return fmt.Errorf("%s is not a valid mac address", v)
	}
	return nil
}

// GPUs collects --gpus.
type GPUs struct{ List []container.DeviceRequest }

// Type names the value in help texts.
func (g *GPUs) Type() string { return "gpu-request" }

func (g *GPUs) String() string {
	if len(g.List) == 0 {
		return ""
	}
	return fmt.Sprint(g.List)
}

// Set reads all, a number, or key=value words.
func (g *GPUs) Set(v string) error {
	fields, err := csvFields(v)
	if err != nil {
		return err
	}
	req := container.DeviceRequest{}
	seen := map[string]bool{}
	for _, f := range fields {
		key, val, has := strings.Cut(f, "=")
		if !has {
			key, val = "count", f
		}
		if seen[key] {
			return fmt.Errorf("gpu request key '%s' can be specified only once", key)
		}
		seen[key] = true
		switch key {
		case "driver":
			req.Driver = val
		case "count":
			if val == "all" {
				req.Count = -1
			} else if req.Count, err = strconv.Atoi(val); err != nil {
				return fmt.Errorf("invalid count (%s): value must be either \"all\" or an integer: %w", val, errors.Unwrap(err))
			}
		case "device":
			req.DeviceIDs = strings.Split(val, ",")
		case "capabilities":
			req.Capabilities = [][]string{append(strings.Split(val, ","), "gpu")}
		case "options":
			words, err := csvFields(val)
			if err != nil {
				return fmt.Errorf("unable to read gpu options: %w", err)
			}
			req.Options = ToMap(words)
		default:
			return fmt.Errorf("unexpected key '%s' in '%s'", key, f)
		}
	}
	if !seen["count"] && req.DeviceIDs == nil {
		req.Count = 1
	}
	if req.Options == nil {
		req.Options = map[string]string{}
	}
	if req.Capabilities == nil {
		req.Capabilities = [][]string{{"gpu"}}
	}
	g.List = append(g.List, req)
	return nil
}
