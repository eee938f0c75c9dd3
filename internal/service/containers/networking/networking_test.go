package networking

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/spec"
)

func TestPorts(t *testing.T) {
	hc := &container.HostConfig{PublishAllPorts: true, PortBindings: network.PortMap{
		network.MustParsePort("80/tcp"): {{HostPort: "8080-8090"}, {HostPort: "8000"}}, network.MustParsePort("53/udp"): nil}}
	config := &container.Config{ExposedPorts: network.PortSet{network.MustParsePort("80/tcp"): {}, network.MustParsePort("443/tcp"): {}}}
	got, err := Ports(config, hc)
	want := []spec.Port{{Proto: "udp", ContainerPort: 53}, {Proto: "tcp", ContainerPort: 80, HostPort: 8000},
		{Proto: "tcp", ContainerPort: 80, HostPort: 8080, HostPortEnd: 8090}, {Proto: "tcp", ContainerPort: 443}}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	hc.PortBindings = network.PortMap{network.MustParsePort("80/tcp"): {{HostPort: "many"}}}
	if _, err := Ports(config, hc); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v", err)
	}
}

func TestEndpoints(t *testing.T) {
	asked := func(name string, ep *network.EndpointSettings) *network.NetworkingConfig {
		return &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{name: ep}}
	}
	for _, c := range []struct {
		name string
		hc   container.HostConfig
		nc   *network.NetworkingConfig
		want int // networks; -1: refused
	}{
		{"only the mode", container.HostConfig{NetworkMode: "bridge"}, nil, 1},
		{"default is bridge", container.HostConfig{NetworkMode: "bridge"}, asked("default", nil), 1},
		{"mode and another", container.HostConfig{NetworkMode: "bridge"}, asked("web", &network.EndpointSettings{Aliases: []string{"a"}}), 2},
		{"another container's", container.HostConfig{NetworkMode: "container:x"}, nil, 0},
		{"another container's, and own", container.HostConfig{NetworkMode: "container:x"}, asked("web", nil), -1},
		{"an alias on the bridge", container.HostConfig{NetworkMode: "bridge"}, asked("bridge", &network.EndpointSettings{Aliases: []string{"a"}}), -1},
	} {
		got, err := Endpoints(&container.Config{}, &c.hc, c.nc)
		if c.want < 0 && !errdefs.IsInvalidArgument(err) || c.want >= 0 && (err != nil || len(got) != c.want) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	hc := container.HostConfig{NetworkMode: "bridge"}
	if got, err := Endpoints(&container.Config{NetworkDisabled: true}, &hc, nil); err != nil || hc.NetworkMode != "none" || got["none"] == nil {
		t.Errorf("without network: %v, %v, %v", got, hc.NetworkMode, err)
	}
}
