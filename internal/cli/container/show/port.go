package show

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// BuildPort is port.
func BuildPort(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		var info container.InspectResponse
		if err := c.Get(ctx, "/containers/"+url.PathEscape(args[0])+"/json", nil, &info); err != nil {
			return err
		}
		if info.NetworkSettings == nil {
			return errors.New("the engine's answer has no network settings")
		}
		var want network.Port
		if len(args) > 1 {
			if want, err = network.ParsePort(args[1]); err != nil {
				return err
			}
		}
		var lines []string
		for p, bs := range info.NetworkSettings.Ports {
			if want.IsValid() && p != want {
				continue
			}
			for _, b := range bs {
				ip := "0.0.0.0"
				if b.HostIP.IsValid() {
					ip = b.HostIP.String()
				}
				addr := net.JoinHostPort(ip, b.HostPort)
				if want.IsValid() {
					lines = append(lines, addr)
				} else {
					lines = append(lines, fmt.Sprintf("%s -> %s", p, addr))
				}
			}
		}
		if want.IsValid() && len(lines) == 0 {
			return fmt.Errorf("Error: No public port '%s' published for %s", args[1], args[0]) // docker's text
		}
		slices.SortFunc(lines, natural)
		for _, l := range lines {
			fmt.Fprintln(a.Out, l)
		}
		return nil
	}
}

// natural orders texts with numbers in them by the numbers' values.
func natural(x, y string) int {
	for len(x) > 0 && len(y) > 0 {
		nx, ny := digits(x), digits(y)
		if nx > 0 && ny > 0 {
			if nx != ny {
				return nx - ny
			}
			if x[:nx] != y[:ny] {
				return compare(x[:nx], y[:ny])
			}
			x, y = x[nx:], y[ny:]
			continue
		}
		if x[0] != y[0] {
			return int(x[0]) - int(y[0])
		}
		x, y = x[1:], y[1:]
	}
	return len(x) - len(y)
}

func compare(x, y string) int {
	if x < y {
		return -1
	}
	return 1
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
