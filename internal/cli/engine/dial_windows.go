package engine

import (
	"context"
	"net"
	"strings"

	"github.com/Microsoft/go-winio"
)

func dialLocal(ctx context.Context, proto, addr string) (net.Conn, error) {
	if proto == "npipe" {
		return winio.DialPipeContext(ctx, strings.ReplaceAll(addr, "/", `\`))
	}
	return (&net.Dialer{}).DialContext(ctx, "unix", addr)
}
