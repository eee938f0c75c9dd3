package networks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/server"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	service "github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit/apicheck"
)

// driver makes endpoints of nothing.
type driver struct{ addr netip.Prefix }

func (d driver) Open(context.Context) error      { return nil }
func (driver) Ready(context.Context) error       { return nil }
func (driver) Close(context.Context, bool) error { return nil }
func (d driver) Attach(context.Context, service.Join) (service.Attached, error) {
	return service.Attached{Endpoint: spec.Endpoint{IPv4: d.addr, MAC: "02:42:ac:11:00:02"}}, nil
}
func (driver) Restore(context.Context, spec.Endpoint) error          { return nil }
func (driver) Unplug(context.Context, spec.Endpoint, *os.File) error { return nil }
func (driver) Detach(context.Context, spec.Endpoint) error           { return nil }

// members says what it was asked.
type members struct{}

func (members) Connect(_ context.Context, ref string, req network.ConnectRequest) error {
	return fmt.Errorf("%s to %s: %w", req.Container, ref, errdefs.ErrConflict)
}

func (members) Disconnect(_ context.Context, ref string, req network.DisconnectRequest) error {
	return fmt.Errorf("%s from %s: %w", req.Container, ref, errdefs.ErrPermissionDenied)
}

type noPorts struct{ service.Ports }

func (noPorts) Ready(context.Context) error { return nil }

// api is the endpoints over the real service, with one container on the bridge.
func api(t *testing.T) func(request, body string) (int, []byte) {
	t.Helper()
	ctx := context.Background()
	svc, err := service.New(service.Config{Seed: "x", Created: time.Unix(1700000000, 0).UTC()},
		service.Deps{Predefined: []service.Predefined{
			{Network: spec.Network{Name: "bridge", Driver: "bridge", EnableIPv4: true, Options: map[string]string{"com.docker.network.bridge.name": "gantry0"}, Pools: []spec.Pool{
				{Subnet: netip.MustParsePrefix("172.17.0.0/16"), Range: netip.MustParsePrefix("172.17.4.0/24"), Gateway: netip.MustParseAddr("172.17.0.1")}}},
				Driver: driver{netip.MustParsePrefix("172.17.0.2/16")}},
			{Network: spec.Network{Name: "host", Driver: "host"}, Driver: driver{}}, {Network: spec.Network{Name: "none", Driver: "null"}, Driver: driver{}},
		}, Ports: noPorts{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Attach(ctx, spec.SandboxRequest{Container: strings.Repeat("c", 64), Name: "web"}); err != nil {
		t.Fatal(err)
	}
	srv := server.New(server.Options{Product: "Gantry/test", Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := srv.Ready([]httpapi.Router{New(svc, members{})}...); err != nil {
		t.Fatal(err)
	}
	return func(request, body string) (int, []byte) {
		method, path, _ := strings.Cut(request, " ")
		var in io.Reader
		if body != "" {
			in = strings.NewReader(body)
		}
		r := httptest.NewRequest(method, path, in)
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		return w.Code, w.Body.Bytes()
	}
}

func TestAnswersKeepToTheDescription(t *testing.T) {
	call := api(t)
	for _, c := range []struct {
		request, path string
		status        int
	}{
		{"GET /networks", "/networks", 200},
		{"GET /networks?filters=%7B%22driver%22%3A%5B%22nope%22%5D%7D", "/networks", 200},
		{"GET /networks/bridge", "/networks/{id}", 200},
		{"GET /networks/none", "/networks/{id}", 200},
		{"GET /networks/nope", "/networks/{id}", 404},
		{"DELETE /networks/bridge", "/networks/{id}", 403},
		{"DELETE /networks/nope", "/networks/{id}", 404},
		{"POST /networks/prune", "/networks/prune", 200},
	} {
		status, body := call(c.request, "")
		if status != c.status {
			t.Errorf("%s: %d %s, want %d", c.request, status, body, c.status)
		}
		method, _, _ := strings.Cut(c.request, " ")
		apicheck.Response(t, method, c.path, status, body)
	}
}

func TestErrors(t *testing.T) {
	call := api(t)
	for _, c := range []struct {
		request, body string
		status        int
		text          string
	}{
		{"DELETE /networks/host", "", 403, "host is a pre-defined network and cannot be removed"},
		{"GET /networks/nope", "", 404, "network nope not found"},
		{"GET /networks/bridge?scope=swarm", "", 404, "network bridge not found"},
		{"GET /networks?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D", "", 400, "invalid filter 'colour'"},
		{"GET /networks?filters=%7B%22type%22%3A%5B%22red%22%5D%7D", "", 400, "'type'='red'"},
		{"GET /networks?filters=%7B%22dangling%22%3A%5B%22maybe%22%5D%7D", "", 400, "dangling"},
		{"GET /networks?filters=%7B", "", 400, "filter"},
		{"POST /networks/create", "", 400, ""},
		{"POST /networks/create", `{"Name":""}`, 400, "name"},
		{"POST /networks/create", `{"Name":`, 400, "JSON"},
		{"POST /networks/create", `{"Name":"bridge"}`, 403, "operation is not permitted on predefined bridge network"},
		{"POST /networks/create", `{"Name":"mine","Driver":"pigeon"}`, 404, "pigeon"},
		{"POST /networks/front/connect", `{"Container":"web"}`, 409, "web to front"},
		{"POST /networks/front/disconnect", `{"Container":"web"}`, 403, "web from front"},
		{"POST /networks/prune?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D", "", 400, "colour"},
	} {
		status, body := call(c.request, c.body)
		var e struct{ Message string }
		if err := json.Unmarshal(body, &e); err != nil || status != c.status || !strings.Contains(e.Message, c.text) {
			t.Errorf("%s %s: %d %s; want %d with %q", c.request, c.body, status, body, c.status, c.text)
		}
	}
}

func TestWhatInspectShows(t *testing.T) {
	call := api(t)
	_, body := call("GET /networks/bridge", "")
	var n network.Inspect
	if err := json.Unmarshal(body, &n); err != nil {
		t.Fatal(err)
	}
	c := n.Containers[strings.Repeat("c", 64)]
	if n.Name != "bridge" || n.Scope != "local" || n.Driver != "bridge" || len(n.IPAM.Config) != 1 || c.Name != "web" ||
		c.IPv4Address.String() != "172.17.0.2/16" || n.IPAM.Config[0].IPRange.String() != "172.17.4.0/24" || n.IPAM.Config[0].Gateway.String() != "172.17.0.1" {
		t.Errorf("inspect: %s", body)
	}
}

func TestOldClientsSeeContainersInTheList(t *testing.T) {
	call := api(t)
	for version, want := range map[string]bool{"1.27": true, "1.28": false, "1.56": false} {
		if _, body := call("GET /v"+version+"/networks", ""); strings.Contains(string(body), strings.Repeat("c", 64)) != want {
			t.Errorf("API %s: %s", version, body)
		}
	}
	if status, _ := call("POST /v1.24/networks/prune", ""); status != 400 {
		t.Errorf("prune in API 1.24, which has none: %d", status)
	}
}
