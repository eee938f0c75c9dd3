//go:build !windows

package engine

import (
	"context"
	"fmt"
	"net"
)

func dialLocal(ctx context.Context, proto, addr string) (net.Conn, error) {
	if proto != "unix" {
		return nil, fmt.Errorf("%s is for Windows only", proto)
	}
	return (&net.Dialer{}).DialContext(ctx, "unix", addr)
}
