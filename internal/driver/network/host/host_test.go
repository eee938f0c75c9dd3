package host

import (
	"context"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/service/networks"
)

func TestSharesTheHosts(t *testing.T) {
	ctx := context.Background()
	a, err := New().Attach(ctx, networks.Join{})
	if err != nil || a.NetNS != nil || a.Endpoint.IPv4.IsValid() {
		t.Errorf("attached %+v, %v", a, err)
	}
	if _, err := New().Attach(ctx, networks.Join{Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a setting of the host's: %v", err)
	}
}
