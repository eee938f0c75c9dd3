package containers

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

type query struct{ svc Reader }

func (q query) list(ctx context.Context, w http.ResponseWriter, r *http.Request, _ httpapi.Vars) error {
	args, err := filters.Parse(r.FormValue("filters"))
	if err != nil {
		return err
	}
	limit, err := httpapi.Int64(r, "limit", 0)
	if err != nil {
		return err
	}
	list, err := q.svc.List(ctx, containers.ListOptions{All: httpapi.Bool(r, "all"), Size: httpapi.Bool(r, "size"), Limit: int(limit), Filters: args})
	if err != nil {
		return err
	}
	for i := range list {
		if older(ctx, "1.52") {
			list[i].Health = nil
		}
		if older(ctx, "1.46") {
			list[i].HostConfig.Annotations = nil
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, list)
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

type oldInspect struct {
	container.InspectResponse
	NetworkSettings *oldSettings
}

func (q query) inspect(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	c, err := q.svc.Inspect(ctx, vars["id"], httpapi.Bool(r, "size"))
	if err != nil {
		return err
	}
	if !older(ctx, "1.52") {
		return httpapi.WriteJSON(w, http.StatusOK, c)
	}
	c.GraphDriver, c.Storage = &storage.DriverData{Name: c.Driver, Data: map[string]string{}}, nil
	old := oldInspect{InspectResponse: c, NetworkSettings: &oldSettings{NetworkSettings: c.NetworkSettings}}
	if c.NetworkSettings != nil {
		if b := c.NetworkSettings.Networks["bridge"]; b != nil {
			n := old.NetworkSettings
			n.EndpointID, n.Gateway, n.IPAddress, n.IPPrefixLen, n.MacAddress = b.EndpointID, b.Gateway, b.IPAddress, b.IPPrefixLen, b.MacAddress
			n.IPv6Gateway, n.GlobalIPv6Address, n.GlobalIPv6PrefixLen = b.IPv6Gateway, b.GlobalIPv6Address, b.GlobalIPv6PrefixLen
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, old)
}

func (q query) top(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	t, err := q.svc.Top(ctx, vars["id"], r.FormValue("ps_args"))
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, t)
}

func (q query) stats(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	streaming := r.FormValue("stream") == "" || httpapi.Bool(r, "stream")
	enc := json.NewEncoder(w)
	begun := false
	err := q.svc.Stats(ctx, vars["id"], streaming, httpapi.Bool(r, "one-shot"), func(s container.StatsResponse) error {
		if !begun {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK)
			begun = true
		}
		if err := enc.Encode(s); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	})
	if begun {
		return nil // the status is out: the stream just ends
	}
	return err
}
