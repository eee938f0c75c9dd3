package containers

import (
	"context"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

// What requests and answers of containers had in other versions of the API.

// Fields that came later, by the version history of the Engine API. The few of the versions
// that today's clients speak are struck by hand in query.list: that is cheaper.
var (
	listFields = []httpapi.Field{
		{Path: "NetworkSettings.Networks.*.DriverOpts", Since: "1.32"}, {Path: "NetworkSettings.Networks.*.DNSNames", Since: "1.44"},
		{Path: "NetworkSettings.Networks.*.GwPriority", Since: "1.48"},
	}
	inspectFields = []httpapi.Field{
		{Path: "HostConfig.DeviceCgroupRules", Since: "1.28"}, {Path: "NetworkSettings.Networks.*.DriverOpts", Since: "1.32"}, {Path: "Platform", Since: "1.32"},
		{Path: "HostConfig.MaskedPaths", Since: "1.38"}, {Path: "HostConfig.ReadonlyPaths", Since: "1.38"},
		{Path: "HostConfig.DeviceRequests", Since: "1.40"}, {Path: "HostConfig.Mounts.BindOptions.NonRecursive", Since: "1.40"},
		{Path: "HostConfig.CgroupnsMode", Since: "1.41"}, {Path: "HostConfig.Mounts.BindOptions.CreateMountpoint", Since: "1.42"}, {Path: "HostConfig.Annotations", Since: "1.43"},
		{Path: "HostConfig.Mounts.BindOptions.ReadOnlyNonRecursive", Since: "1.44"}, {Path: "HostConfig.Mounts.BindOptions.ReadOnlyForceRecursive", Since: "1.44"},
		{Path: "Config.Healthcheck.StartPeriod", Since: "1.29"}, {Path: "Config.Healthcheck.StartInterval", Since: "1.44"}, {Path: "NetworkSettings.Networks.*.DNSNames", Since: "1.44"},
		{Path: "HostConfig.Mounts.VolumeOptions.Subpath", Since: "1.45"}, {Path: "HostConfig.Mounts.TmpfsOptions.Options", Since: "1.46"},
		{Path: "ImageManifestDescriptor", Since: "1.48"}, {Path: "NetworkSettings.Networks.*.GwPriority", Since: "1.48"}, {Path: "HostConfig.Umask", Since: "1.56"},
	}
)

// createBody is the request with what later versions no longer read.
type createBody struct {
	container.CreateRequest
	MacAddress string // of the container as a whole, up to 1.51: now it belongs to an endpoint
}

// forget drops from a request what its version does not have: a newer client that fell back
// to an old version must get what an old engine would have made of it.
func forget(ctx context.Context, b *createBody) error {
	c, h := b.Config, b.HostConfig
	if older(ctx, "1.44") && c.Healthcheck != nil {
		c.Healthcheck.StartInterval = 0
	}
	if h != nil {
		forgetHost(ctx, h)
	}
	if b.MacAddress == "" || !older(ctx, "1.52") {
		return nil
	}
	return b.placeMAC()
}

func forgetHost(ctx context.Context, h *container.HostConfig) {
	if older(ctx, "1.40") {
		if h.IpcMode.IsEmpty() {
			h.IpcMode = container.IPCModeShareable
		}
		h.DeviceRequests = nil
	}
	if older(ctx, "1.41") && h.CgroupnsMode.IsEmpty() {
		h.CgroupnsMode = container.CgroupnsModeHost
	}
	if older(ctx, "1.42") { // before, 0 meant "no limit was given"
		if h.PidsLimit != nil && *h.PidsLimit <= 0 {
			h.PidsLimit = nil
		}
		h.ConsoleSize = [2]uint{}
	}
	if older(ctx, "1.43") {
		h.Annotations = nil
	}
	if older(ctx, "1.56") {
		h.Umask = nil
	}
	for i := range h.Mounts {
		forgetMount(ctx, &h.Mounts[i])
	}
}

func forgetMount(ctx context.Context, m *mount.Mount) {
	if m.BindOptions != nil && older(ctx, "1.40") {
		m.BindOptions.NonRecursive = false
	}
	if m.BindOptions != nil && older(ctx, "1.42") {
		m.BindOptions.CreateMountpoint = false
	}
	if m.Type == mount.TypeBind && m.ReadOnly && older(ctx, "1.44") { // read-only was not recursive then
		if m.BindOptions == nil {
			m.BindOptions = &mount.BindOptions{}
		}
		m.BindOptions.ReadOnlyNonRecursive, m.BindOptions.ReadOnlyForceRecursive = true, false
	}
	if m.VolumeOptions != nil && older(ctx, "1.45") {
		m.VolumeOptions.Subpath = ""
	}
	if m.TmpfsOptions != nil && older(ctx, "1.46") {
		m.TmpfsOptions.Options = nil
	}
}

// placeMAC moves the container's MAC address to the endpoint in its main network.
func (b *createBody) placeMAC() error {
	var mac network.HardwareAddr
	if err := mac.UnmarshalText([]byte(b.MacAddress)); err != nil {
		return invalid("invalid mac address %q: %w", b.MacAddress, err)
	}
	name := network.NetworkBridge
	if b.HostConfig != nil && !b.HostConfig.NetworkMode.IsDefault() && b.HostConfig.NetworkMode != "" {
		name = b.HostConfig.NetworkMode.NetworkName()
	}
	if b.NetworkingConfig == nil {
		b.NetworkingConfig = &network.NetworkingConfig{}
	}
	if b.NetworkingConfig.EndpointsConfig == nil {
		b.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{}
	}
	ep := b.NetworkingConfig.EndpointsConfig[name]
	if ep == nil {
		ep = &network.EndpointSettings{}
		b.NetworkingConfig.EndpointsConfig[name] = ep
	}
	if len(ep.MacAddress) > 0 && ep.MacAddress.String() != mac.String() {
		return invalid("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left out")
	}
	ep.MacAddress = mac
	return nil
}

// oldSettings are the fields that network settings had before 1.52: those of the default bridge.
type oldSettings struct {
	*container.NetworkSettings
	Bridge, LinkLocalIPv6Address string
	HairpinMode                  bool
	LinkLocalIPv6PrefixLen       int
	SecondaryIPAddresses         []string
	SecondaryIPv6Addresses       []string
	EndpointID                   string
	Gateway, GlobalIPv6Address   netip.Addr
	GlobalIPv6PrefixLen          int
	IPAddress                    netip.Addr
	IPPrefixLen                  int
	IPv6Gateway                  netip.Addr
	MacAddress                   network.HardwareAddr
}

// oldConfig has the fields that were there even when empty, and up to 1.43 a MAC address.
type oldConfig struct {
	*container.Config
	OnBuild    []string
	MacAddress string `json:",omitempty"`
}

type oldInspect struct {
	container.InspectResponse
	Config          *oldConfig
	NetworkSettings *oldSettings
}

// inspectBefore152 shapes an answer as versions before 1.52 had it.
func inspectBefore152(ctx context.Context, c container.InspectResponse) oldInspect {
	c.GraphDriver, c.Storage = &storage.DriverData{Name: c.Driver, Data: map[string]string{}}, nil
	old := oldInspect{InspectResponse: c, NetworkSettings: &oldSettings{NetworkSettings: c.NetworkSettings}}
	if c.Config != nil {
		old.Config = &oldConfig{Config: c.Config, OnBuild: c.Config.OnBuild}
	}
	if c.NetworkSettings == nil {
		return old
	}
	if b := c.NetworkSettings.Networks[network.NetworkBridge]; b != nil {
		n := old.NetworkSettings
		n.EndpointID, n.Gateway, n.IPAddress, n.IPPrefixLen, n.MacAddress = b.EndpointID, b.Gateway, b.IPAddress, b.IPPrefixLen, b.MacAddress
		n.IPv6Gateway, n.GlobalIPv6Address, n.GlobalIPv6PrefixLen = b.IPv6Gateway, b.GlobalIPv6Address, b.GlobalIPv6PrefixLen
	}
	if older(ctx, "1.45") && c.Config != nil {
		shortAliases(c)
	}
	return old
}

// shortAliases gives endpoints in user-defined networks the short ID and the host name as
// aliases, which moved to DNSNames in 1.45.
func shortAliases(c container.InspectResponse) {
	for name, ep := range c.NetworkSettings.Networks {
		if ep == nil || !container.NetworkMode(name).IsUserDefined() {
			continue
		}
		for _, alias := range []string{c.ID[:min(12, len(c.ID))], c.Config.Hostname} {
			if alias != "" && !slices.Contains(ep.Aliases, alias) {
				ep.Aliases = append(slices.Clip(ep.Aliases), alias)
			}
		}
	}
}
