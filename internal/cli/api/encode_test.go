package api

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
)

// What is written is read as the value it was made of: a field that is left out is one that says nothing.
func TestEncodeLosesNothing(t *testing.T) {
	no, yes, pids, swap := false, true, int64(0), int64(0)
	timeout := 0
	for _, v := range []any{
		&container.CreateRequest{
			Config: &container.Config{Image: "bb", Cmd: []string{"a \"quoted\" <word>", ""}, Entrypoint: []string{""}, Env: []string{}, Volumes: map[string]struct{}{}, StopTimeout: &timeout,
				ExposedPorts: network.PortSet{network.MustParsePort("80/tcp"): {}}, Labels: map[string]string{"a\n": "b", "": ""}, Healthcheck: &container.HealthConfig{Test: []string{"NONE"}, Interval: time.Second}},
			HostConfig: &container.HostConfig{AutoRemove: true, Init: &no, MaskedPaths: []string{}, DNS: []netip.Addr{netip.MustParseAddr("::1")}, ConsoleSize: [2]uint{0, 80},
				PortBindings:  network.PortMap{network.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "8080"}}},
				RestartPolicy: container.RestartPolicy{Name: "always"}, Mounts: []mount.Mount{{Type: "tmpfs", Target: "/x", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1}}}, Tmpfs: map[string]string{"/t": ""},
				Resources: container.Resources{OomKillDisable: &yes, PidsLimit: &pids, MemorySwappiness: &swap, Devices: []container.DeviceMapping{}, BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/x", Rate: 1}}}},
			NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"default": {}, "n": {Aliases: []string{"x"},
				MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 1}, IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("10.0.0.2")}}}},
		},
		&container.CreateRequest{},
		&container.UpdateConfig{Resources: container.Resources{PidsLimit: &pids}},
		&container.ExecCreateRequest{Cmd: []string{"true"}, ConsoleSize: &[2]uint{1, 2}},
		&volume.CreateRequest{Name: "v", DriverOpts: map[string]string{"o": "x"}},
		&network.CreateRequest{Name: "n", EnableIPv6: &no, IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.0.0.0/8")}}}},
		&network.ConnectRequest{Container: "c", EndpointConfig: &network.EndpointSettings{}},
		map[string]any{"a": 1.0, "b": nil, "c": []any{"x"}},
	} {
		b, err := encode(v)
		if err != nil {
			t.Fatalf("%T: %v", v, err)
		}
		full, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := reflect.New(reflect.TypeOf(v)), reflect.New(reflect.TypeOf(v))
		if err := json.Unmarshal(b, ours.Interface()); err != nil {
			t.Errorf("%T: %v in %s", v, err, b)
			continue
		}
		if err := json.Unmarshal(full, theirs.Interface()); err != nil {
			t.Fatal(err)
		}
		// Compared as encoding/json writes both: what differs there differs for an engine.
		x, _ := json.Marshal(ours.Interface())
		y, _ := json.Marshal(theirs.Interface())
		if string(x) != string(y) {
			t.Errorf("%T: from %s\n%s\nwant\n%s", v, b, x, y)
		}
		if len(b) > len(full) {
			t.Errorf("%T: longer than all of it: %s", v, b)
		}
	}
	if b, err := encode((*container.CreateRequest)(nil)); err != nil || string(b) != "null" {
		t.Errorf("nil: %s %v", b, err)
	}
	if _, err := encode(map[string]any{"f": func() {}}); err == nil {
		t.Error("a function was written")
	}
}
