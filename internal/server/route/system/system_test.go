package system

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	etypes "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/gantry-engine/gantry/internal/server"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	eventsroute "github.com/gantry-engine/gantry/internal/server/route/events"
	pluginsroute "github.com/gantry-engine/gantry/internal/server/route/plugins"
	swarmroute "github.com/gantry-engine/gantry/internal/server/route/swarm"
	"github.com/gantry-engine/gantry/internal/service/events"
	service "github.com/gantry-engine/gantry/internal/service/system"
	"github.com/gantry-engine/gantry/internal/testkit/apicheck"
)

type fakes struct{}

func (fakes) Counts(context.Context) service.Counts {
	return service.Counts{Running: 2, Paused: 1, Stopped: 4}
}
func (fakes) Count(context.Context) int { return 3 }
func (fakes) DiskUsage(context.Context) (image.DiskUsage, error) {
	return image.DiskUsage{ActiveCount: 1, TotalCount: 2, TotalSize: 100, Reclaimable: 40, Items: []image.Summary{{ID: "sha256:a", RepoTags: []string{"x:1"}, RepoDigests: []string{}, Containers: 1}, {ID: "sha256:b"}}}, nil
}

type weights struct{ fakes }

func (weights) Usage(context.Context) ([]container.Summary, error) {
	return []container.Summary{{ID: "1", State: "running", SizeRw: 10}, {ID: "2", State: "exited", SizeRw: 5}, {ID: "3", State: "paused", SizeRw: 1}}, nil
}

func (weights) Known(context.Context, string) bool { return true }

type vols struct{}

func (vols) Usage(context.Context) ([]volume.Volume, error) {
	return []volume.Volume{
		{Name: "a", UsageData: &volume.UsageData{Size: 7, RefCount: 1}}, {Name: "b", UsageData: &volume.UsageData{Size: 9}}, {Name: "c", UsageData: &volume.UsageData{Size: -1, RefCount: -1}},
	}, nil
}

func api(t *testing.T) func(path string) (int, []byte) {
	t.Helper()
	hub := events.New(slog.New(slog.DiscardHandler))
	s := service.New(service.Facts{
		ID: "the-id", Version: "1.0", Commit: "abc", APIVersion: "1.56", MinAPIVersion: "1.24", DataRoot: "/data", LogDriver: "json-file", LogDrivers: []string{"json-file"},
		CgroupDriver: "cgroupfs", HTTPProxy: "http://me:secret@proxy:1", Insecure: []string{"10.0.0.0/8", "reg:5000"}, StorageDriver: "overlayfs", Firewall: "nftables",
		SecurityOptions: []string{"name=seccomp,profile=builtin"}, NetworkDrivers: []string{"bridge"}, LiveRestore: true, DefaultRuntime: "gantry",
	}, service.Ports{Containers: weights{}, Images: fakes{}, Volumes: vols{}, Events: hub})
	srv := server.New(server.Options{Product: "Gantry/test", Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := srv.Ready([]httpapi.Router{New(s), eventsroute.New(hub), pluginsroute.New(), swarmroute.New()}...); err != nil {
		t.Fatal(err)
	}
	return func(path string) (int, []byte) {
		method := "GET"
		if m, p, ok := strings.Cut(path, " "); ok {
			method, path = m, p
		}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, w.Body.Bytes()
	}
}

func TestInfo(t *testing.T) {
	call := api(t)
	status, body := call("/info")
	apicheck.Response(t, "GET", "/info", status, body)
	var i system.Info
	if err := json.Unmarshal(body, &i); err != nil {
		t.Fatal(err)
	}
	if i.ID != "the-id" || i.Containers != 7 || i.ContainersPaused != 1 || i.Images != 3 || i.KernelVersion == "" || i.NCPU == 0 || i.MemTotal == 0 || i.OperatingSystem == "" || i.CgroupVersion == "" {
		t.Errorf("%s", body)
	}
	if strings.Contains(string(body), "secret") || i.HTTPProxy != "http://xxxxx:xxxxx@proxy:1" {
		t.Errorf("the proxy's password shows: %s", i.HTTPProxy)
	}
	if i.RegistryConfig.IndexConfigs["reg:5000"] == nil || i.RegistryConfig.IndexConfigs["reg:5000"].Secure || len(i.RegistryConfig.InsecureRegistryCIDRs) != 3 {
		t.Errorf("registries %+v", i.RegistryConfig)
	}
	if _, old := call("/v1.49/info"); !strings.Contains(string(old), `"BridgeNfIp6tables":false`) || !strings.Contains(string(old), "FirewallBackend") {
		t.Errorf("1.49: %s", old)
	}
	if _, old := call("/v1.48/info"); strings.Contains(string(old), "FirewallBackend") {
		t.Error("1.48 has FirewallBackend")
	}
}

func TestVersion(t *testing.T) {
	status, body := api(t)("/version")
	apicheck.Response(t, "GET", "/version", status, body)
	var v system.VersionResponse
	if err := json.Unmarshal(body, &v); err != nil || v.APIVersion != "1.56" || v.MinAPIVersion != "1.24" || v.Components[0].Name != "Engine" || v.Components[0].Details["GitCommit"] != "abc" {
		t.Errorf("%s, %v", body, err)
	}
}

func TestDiskUsageShapes(t *testing.T) {
	call := api(t)
	keys := func(path string) map[string]json.RawMessage {
		t.Helper()
		status, body := call(path)
		var m map[string]json.RawMessage
		if err := json.Unmarshal(body, &m); err != nil || status != 200 {
			t.Fatalf("%s: %d %s", path, status, body)
		}
		return m
	}
	for _, path := range []string{"/system/df", "/system/df?verbose=1"} {
		status, body := call(path)
		apicheck.Response(t, "GET", "/system/df", status, body)
	}
	now := keys("/system/df")
	var c container.DiskUsage
	if err := json.Unmarshal(now["ContainerUsage"], &c); err != nil || c.TotalCount != 3 || c.ActiveCount != 2 || c.TotalSize != 16 || c.Reclaimable != 5 || len(c.Items) != 0 {
		t.Errorf("containers %s", now["ContainerUsage"])
	}
	var v volume.DiskUsage
	if err := json.Unmarshal(now["VolumeUsage"], &v); err != nil || v.TotalCount != 3 || v.ActiveCount != 1 || v.TotalSize != 16 || v.Reclaimable != 9 {
		t.Errorf("volumes %s", now["VolumeUsage"])
	}
	if now["Images"] != nil || now["LayersSize"] != nil {
		t.Error("1.56 has the old fields")
	}
	if err := json.Unmarshal(keys("/system/df?verbose=1")["ContainerUsage"], &c); err != nil || len(c.Items) != 3 {
		t.Errorf("verbose lists %d containers", len(c.Items))
	}
	old := keys("/v1.43/system/df")
	if old["ImageUsage"] != nil || string(old["LayersSize"]) != "100" || old["Containers"] == nil || old["Volumes"] == nil || string(old["BuildCache"]) != "[]" {
		t.Errorf("1.43: %v", old)
	}
	if both := keys("/v1.52/system/df"); both["ImageUsage"] == nil || both["Images"] == nil {
		t.Errorf("1.52 lacks a shape: %v", both)
	}
	if some := keys("/v1.43/system/df?type=volume&type=container"); some["Images"] != nil || some["Volumes"] == nil || some["Containers"] == nil {
		t.Errorf("by type: %v", some)
	}
	if status, body := call("/system/df?type=socks"); status != 400 || !strings.Contains(string(body), "unknown object type: socks") {
		t.Errorf("an unknown type: %d %s", status, body)
	}
}

func TestEmptyAndMissing(t *testing.T) {
	call := api(t)
	status, body := call("/plugins")
	apicheck.Response(t, "GET", "/plugins", status, body)
	if string(body) != "[]\n" {
		t.Errorf("plugins: %s", body)
	}
	for path, want := range map[string]int{
		"/swarm": 503, "/nodes": 503, "/services/x/logs": 503, "/secrets": 503, "/configs/x": 503, "/tasks": 503, "DELETE /services/x": 503,
		"POST /swarm/init": 501, "POST /swarm/join": 501, "POST /swarm/leave": 503, "POST /plugins/pull": 501, "/plugins/x/y/json": 404,
	} {
		status, body := call(path)
		if status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
		apicheck.Definition(t, "ErrorResponse", body)
	}
	if _, body := call("/nodes"); !strings.Contains(string(body), "This node is not a swarm manager. Use \\\"docker swarm init\\\" or \\\"docker swarm join\\\" to connect this node to swarm and try again.\"") {
		t.Errorf("%s", body)
	}
}

func TestEventsShapes(t *testing.T) {
	hub := events.New(slog.New(slog.DiscardHandler))
	srv := server.New(server.Options{Log: slog.New(slog.DiscardHandler)})
	if err := srv.Ready(eventsroute.New(hub)); err != nil {
		t.Fatal(err)
	}
	hub.Publish(etypes.Message{Type: "container", Action: "start", Actor: etypes.Actor{ID: "c1", Attributes: map[string]string{"image": "img"}}})
	call := func(path, accept string) (string, string) {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		return w.Header().Get("Content-Type"), w.Body.String()
	}
	kind, body := call("/events?since=1&until=0s", "")
	apicheck.Stream(t, "GET", "/events", 200, []byte(body))
	if kind != "application/json" || strings.Contains(body, `"status"`) || !strings.Contains(body, `"Action":"start"`) {
		t.Errorf("1.56: %s %s", kind, body)
	}
	if _, old := call("/v1.51/events?since=1&until=0s", ""); !strings.HasPrefix(old, `{"status":"start","id":"c1","from":"img","Type":"container"`) {
		t.Errorf("1.51: %s", old)
	}
	if kind, seq := call("/events?since=1&until=0s", "text/plain, application/json-seq;q=1"); kind != "application/json-seq" || seq[0] != 0x1e {
		t.Errorf("json-seq: %s %q", kind, seq)
	}
	for _, bad := range []string{"/events?since=x", "/events?until=x", "/events?filters=x", `/events?filters={"odd":["x"]}`, "/events?since=20&until=10"} {
		if _, body := call(bad, ""); !strings.Contains(body, "message") {
			t.Errorf("%s: %s", bad, body)
		}
	}
}
