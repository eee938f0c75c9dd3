package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// field is a part of an answer that only some versions have: those from since on, up to and
// with until. Empty means no bound. The bounds are the version history's.
type field struct{ path, since, until string }

// dig finds a place in decoded JSON: keys and indexes joined by dots.
func dig(v any, path string) (any, bool) {
	for _, k := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[k]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			n, err := strconv.Atoi(k)
			if err != nil || n >= len(x) {
				return nil, false
			}
			v = x[n]
		default:
			return nil, false
		}
	}
	return v, true
}

// all versions from 1.24 to 1.56.
func everyVersion() (list []string) {
	for n := 24; n <= 56; n++ {
		list = append(list, fmt.Sprintf("1.%d", n))
	}
	return list
}

func TestFieldsComeAndGoWithTheirVersions(t *testing.T) {
	e := engine(t)
	newest := newAPI(t, e, "1.56")
	body := everything("fields")
	body["HostConfig"].(map[string]any)["Umask"] = 18
	body["HostConfig"].(map[string]any)["Mounts"] = []map[string]any{{"Type": "bind", "Source": "/etc", "Target": "/mnt/etc", "ReadOnly": true, "BindOptions": map[string]any{"ReadOnlyNonRecursive": true}}}
	body["Healthcheck"].(map[string]any)["StartInterval"] = 1000000000
	body["Healthcheck"].(map[string]any)["StartPeriod"] = 1000000000
	id := newest.create("fields", body)
	newest.start(id)
	newest.do(req{method: "POST", path: "/volumes/create", body: map[string]any{"Name": "vol"}, want: 201})
	const ep = "NetworkSettings.Networks.bridge."
	tests := []struct {
		req
		fields []field
	}{
		{req{method: "GET", path: "/version"}, []field{{"Platform", "1.35", ""}, {"Components", "1.35", ""}, {"MinAPIVersion", "1.25", ""}, {"ApiVersion", "", ""}}},
		{req{method: "GET", path: "/info"}, []field{
			{"Warnings", "1.39", ""}, {"PidsLimit", "1.40", ""}, {"CgroupVersion", "1.41", ""}, {"CDISpecDirs", "1.44", ""}, {"FirewallBackend", "1.49", ""},
			{"BridgeNfIptables", "", "1.49"}, {"BridgeNfIp6tables", "", "1.49"}, {"ContainerdCommit.Expected", "", "1.48"}, {"InitCommit.Expected", "", "1.48"}, {"RuncCommit.ID", "", ""},
			{"RegistryConfig.AllowNondistributableArtifactsCIDRs", "", "1.48"}, {"RegistryConfig.AllowNondistributableArtifactsHostnames", "", "1.48"}, {"RegistryConfig.IndexConfigs", "", ""},
			{"KernelMemoryTCP", "9", ""}, {"Containerd", "9", ""}, // there is neither
		}},
		{req{method: "GET", path: "/system/df"}, []field{
			{"LayersSize", "1.25", "1.52"}, {"Images", "1.25", "1.52"}, {"Containers", "1.25", "1.52"}, {"Volumes", "1.25", "1.52"}, {"BuildCache", "1.31", "1.52"},
			{"ImageUsage", "1.52", ""}, {"ContainerUsage", "1.52", ""}, {"VolumeUsage", "1.52", ""}, {"BuildCacheUsage", "1.52", ""},
			{"Images.0.VirtualSize", "1.25", "1.43"}, {"Images.0.Descriptor", "1.48", "1.52"}, {"Volumes.0.CreatedAt", "1.31", "1.52"}, {"Containers.0.Health", "1.52", "1.52"},
			{"BuilderSize", "9", ""},
		}},
		{req{method: "GET", path: "/system/df", query: "verbose=1"}, []field{{"Images", "1.25", "1.51"}, {"ImageUsage.Items", "1.52", ""}, {"VolumeUsage.Items", "1.52", ""}}},
		{req{method: "GET", path: "/images/json"}, []field{{"0.VirtualSize", "", "1.43"}, {"0.Descriptor", "1.48", ""}, {"0.Manifests", "9", ""}}},
		{req{method: "GET", path: "/images/json", query: "manifests=1"}, []field{{"0.Manifests", "1.47", ""}}},
		{req{method: "GET", path: "/images/{name}/json", id: "bb"}, []field{
			{"VirtualSize", "", "1.43"}, {"Container", "", "1.44"}, {"ContainerConfig", "", "1.44"}, {"Descriptor", "1.48", ""}, {"Metadata", "1.31", ""},
			{"Config.Hostname", "", "1.49"}, {"Config.AttachStdin", "", "1.49"}, {"Config.Image", "", "1.49"}, {"Config.OnBuild", "", "1.51"}, {"Config.Volumes", "", "1.51"},
			{"Parent", "", "1.51"}, {"DockerVersion", "", "1.51"}, {"Author", "", "1.51"}, {"Comment", "", "1.51"}, {"Config.Cmd", "", ""},
		}},
		{req{method: "GET", path: "/images/{name}/json", id: "bb", query: "manifests=1"}, []field{{"Manifests", "1.48", ""}}},
		{req{method: "GET", path: "/volumes"}, []field{{"Volumes.0.CreatedAt", "1.31", ""}}},
		{req{method: "GET", path: "/volumes/{name}", id: "vol"}, []field{{"CreatedAt", "1.31", ""}}},
		{req{method: "GET", path: "/networks/{id}", id: "bridge"}, []field{
			{"Attachable", "1.25", ""}, {"Ingress", "1.29", ""}, {"ConfigFrom", "1.30", ""}, {"ConfigOnly", "1.30", ""}, {"EnableIPv4", "1.47", ""}, {"Containers." + id, "", ""},
		}},
		{req{method: "GET", path: "/networks", query: form("filters", `{"name":["bridge"]}`)}, []field{{"0.Containers." + id, "", "1.27"}, {"0.Ingress", "1.29", ""}, {"0.EnableIPv4", "1.47", ""}}},
		{req{method: "GET", path: "/containers/json"}, []field{
			{"0.HostConfig.Annotations", "1.46", ""}, {"0.ImageManifestDescriptor", "1.48", ""}, {"0.Health", "1.52", ""},
			{"0." + ep + "DriverOpts", "1.32", ""}, {"0." + ep + "DNSNames", "1.44", ""}, {"0." + ep + "GwPriority", "1.48", ""}, {"0." + ep + "IPAddress", "", ""},
		}},
		{req{method: "GET", path: "/containers/{id}/json", id: id}, []field{
			{"NetworkSettings.IPAddress", "", "1.51"}, {"NetworkSettings.Bridge", "", "1.51"}, {"NetworkSettings.HairpinMode", "", "1.51"}, {"NetworkSettings.SecondaryIPAddresses", "", "1.51"},
			{"NetworkSettings.MacAddress", "", "1.51"}, {"NetworkSettings.EndpointID", "", "1.51"}, {"NetworkSettings.Ports", "", ""}, {ep + "IPAddress", "", ""},
			{"Config.OnBuild", "", "1.51"}, {"Config.Healthcheck.StartPeriod", "1.29", ""}, {"Config.Healthcheck.StartInterval", "1.44", ""}, {"Config.Image", "", ""},
			{"GraphDriver", "", "1.51"}, {"Storage", "1.52", ""}, {"Platform", "1.32", ""}, {"ImageManifestDescriptor", "1.48", ""},
			{"HostConfig.DeviceCgroupRules", "1.28", ""}, {"HostConfig.MaskedPaths", "1.38", ""}, {"HostConfig.DeviceRequests", "1.40", ""}, {"HostConfig.CgroupnsMode", "1.41", ""},
			{"HostConfig.Annotations", "1.43", ""}, {"HostConfig.Mounts.0.BindOptions.ReadOnlyNonRecursive", "1.44", ""}, {"HostConfig.Umask", "1.56", ""},
			{"HostConfig.KernelMemory", "9", ""}, {"HostConfig.KernelMemoryTCP", "9", ""},
			{ep + "DriverOpts", "1.32", ""}, {ep + "DNSNames", "1.44", ""}, {ep + "GwPriority", "1.48", ""},
		}},
		{req{method: "GET", path: "/containers/{id}/stats", id: id, query: "stream=0&one-shot=1"}, []field{{"os_type", "1.52", ""}, {"cpu_stats", "", ""}}},
		{req{method: "GET", path: "/events", query: form("since", "1", "until", now(t), "filters", `{"event":["start"]}`)}, []field{
			{"status", "", "1.51"}, {"id", "", "1.51"}, {"from", "", "1.51"}, {"scope", "1.30", ""}, {"Action", "", ""}, {"timeNano", "", ""},
		}},
	}
	deadline := time.Now().Add(20 * time.Second)
	for { // the list tells of health only once there is some
		var st struct {
			State struct{ Health struct{ Status string } }
		}
		newest.do(req{method: "GET", path: "/containers/{id}/json", id: id, want: 200}).into(t, &st)
		if st.State.Health.Status == "healthy" || time.Now().After(deadline) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, v := range everyVersion() {
		a := &api{t: t, e: e, http: newest.http, version: v}
		for _, c := range tests {
			r := c.req
			if r.path == "/system/df" && less(v, "1.25") {
				continue
			}
			checkFields(a, r, c.fields)
		}
	}
}

func checkFields(a *api, r req, fields []field) {
	a.t.Helper()
	res, err := a.send(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	var got any
	dec := json.NewDecoder(res.Body)
	if err := dec.Decode(&got); err != nil || res.StatusCode != 200 {
		a.t.Fatalf("v%s %s: %d, %v", a.version, r.path, res.StatusCode, err)
	}
	for _, f := range fields {
		want := !less(a.version, f.since) && (f.until == "" || !less(f.until, a.version))
		if f.since == "9" {
			want = false
		}
		if v, there := dig(got, f.path); there != want {
			a.t.Errorf("v%s %s?%s: %s is there: %v (%.80v), want %v", a.version, r.path, r.query, f.path, there, v, want)
		}
	}
}

// How many containers use an image was not counted before 1.51.
func TestContainersOfAnImage(t *testing.T) {
	e := engine(t)
	newAPI(t, e, "1.56").create("user", map[string]any{"Image": "bb"})
	for v, want := range map[string]int{"1.50": -1, "1.51": 1, "1.56": 1} {
		var list []struct{ Containers int }
		newAPI(t, e, v).do(req{method: "GET", path: "/images/json", want: 200}).into(t, &list)
		if len(list) != 1 || list[0].Containers != want {
			t.Errorf("v%s: %+v, want %d", v, list, want)
		}
	}
}
