package api

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What a request means depends on its version: a client that fell back to an old one gets
// what an old engine would have made of it.
func TestRequestsMeanWhatTheirVersionMeans(t *testing.T) {
	e := engine(t)
	newest := newAPI(t, e, "1.56")
	inspect := func(id, path string) any {
		t.Helper()
		var v map[string]any
		newest.do(req{method: "GET", path: "/containers/{id}/json", id: id, want: 200}).into(t, &v)
		got, _ := dig(v, path)
		return got
	}
	host := func(kv ...any) map[string]any {
		h := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			h[kv[i].(string)] = kv[i+1]
		}
		return map[string]any{"Image": "bb", "HostConfig": h}
	}
	bind := map[string]any{"Type": "bind", "Source": "/etc", "Target": "/mnt", "ReadOnly": true}
	for _, c := range []struct {
		since string // the version from which on the request means the newer thing
		prior string
		body  map[string]any
		path  string
		old   any
		fresh any
	}{
		{"1.40", "1.39", host(), "HostConfig.IpcMode", "shareable", "private"},
		{"1.42", "1.41", host("PidsLimit", 0), "HostConfig.PidsLimit", nil, 0.0},
		{"1.42", "1.41", host("ConsoleSize", []int{10, 20}), "HostConfig.ConsoleSize.0", 0.0, 10.0},
		{"1.43", "1.42", host("Annotations", map[string]string{"a": "b"}), "HostConfig.Annotations.a", nil, "b"},
		{"1.44", "1.43", host("Mounts", []any{bind}), "HostConfig.Mounts.0.BindOptions.ReadOnlyNonRecursive", true, nil},
		{"1.46", "1.45", host("Mounts", []any{map[string]any{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": map[string]any{"Options": [][]string{{"noexec"}}}}}), "HostConfig.Mounts.0.TmpfsOptions.Options.0.0", nil, "noexec"},
		{"1.56", "1.55", host("Umask", 63), "HostConfig.Umask", nil, 63.0},
		{"1.44", "1.43", map[string]any{"Image": "bb", "Healthcheck": map[string]any{"Test": []string{"CMD", "true"}, "StartInterval": 2000000000}}, "Config.Healthcheck.StartInterval", nil, 2000000000.0},
	} {
		for version, want := range map[string]any{c.prior: c.old, c.since: c.fresh} {
			a := newAPI(t, e, version)
			id := a.create("", c.body)
			if got := inspect(id, c.path); got != want {
				t.Errorf("v%s: %s is %v, want %v", version, c.path, got, want)
			}
			a.remove(id)
		}
	}
}

func TestStopSignalBeganWith142(t *testing.T) {
	e := engine(t)
	for version, want := range map[string]string{"1.41": "term", "1.42": "usr1"} {
		a := newAPI(t, e, version)
		id := a.create("", map[string]any{"Image": "bb", "Cmd": []string{"sh", "-c", `trap "echo term; exit" TERM; trap "echo usr1; exit" USR1; echo ready; while :; do sleep 0.05; done`}})
		a.start(id)
		a.logsSay(id, "ready")
		a.do(req{method: "POST", path: "/containers/{id}/stop", id: id, query: "signal=USR1&t=5", want: 204})
		a.logsSay(id, want)
		a.remove(id)
	}
}

// logsSay waits until a container has printed something.
func (a *api) logsSay(id, want string) {
	a.t.Helper()
	var got string
	for range 400 {
		got = string(a.do(req{method: "GET", path: "/containers/{id}/logs", id: id, query: "stdout=1&stderr=1", want: 200, loose: true}).body)
		if strings.Contains(got, want) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	a.t.Errorf("the log never says %q: %q", want, got)
}

// Conditions of wait began with 1.30: before, whatever is asked for is the end of the run.
func TestWaitConditionsBeganWith130(t *testing.T) {
	e := engine(t)
	old, a := newAPI(t, e, "1.29"), newAPI(t, e, "1.30")
	id := a.create("", map[string]any{"Image": "bb", "Cmd": []string{"true"}})
	old.do(req{method: "POST", path: "/containers/{id}/wait", id: id, query: "condition=nonsense", want: 200})
	r := a.do(req{method: "POST", path: "/containers/{id}/wait", id: id, query: "condition=nonsense", want: 400})
	if !strings.Contains(r.message(), "nonsense") {
		t.Errorf("the refusal says %q", r.message())
	}
}

// Before 1.42 a prune of volumes took named ones along.
func TestVolumePruneBefore142(t *testing.T) {
	e := engine(t)
	for version, want := range map[string]int{"1.41": 404, "1.42": 200} {
		a := newAPI(t, e, version)
		a.do(req{method: "POST", path: "/volumes/create", body: map[string]any{"Name": "named"}, want: 201})
		a.do(req{method: "POST", path: "/volumes/prune", want: 200})
		a.do(req{method: "GET", path: "/volumes/{name}", id: "named", want: want})
	}
}

// The older filter of images' names went with 1.41.
func TestImageFilterBefore141(t *testing.T) {
	e := engine(t)
	for version, want := range map[string]int{"1.40": 0, "1.41": 1} {
		var list []any
		newAPI(t, e, version).do(req{method: "GET", path: "/images/json", query: "filter=other", want: 200}).into(t, &list)
		if len(list) != want {
			t.Errorf("v%s: %d images", version, len(list))
		}
	}
}

func TestVersionsOutOfRange(t *testing.T) {
	e := engine(t)
	for path, want := range map[string]string{
		"/v1.23/info":          "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
		"/v0.1/_ping":          "client version 0.1 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
		"/v1.57/info":          "client version 1.57 is too new. Maximum supported API version is 1.56",
		"/v2.0/containers/all": "client version 2.0 is too new. Maximum supported API version is 1.56",
		"/v1.55.1/info":        "",
		"/v1./info":            "",
		"/v1.5six/info":        "",
	} {
		res, err := e.HTTP().Get("http://engine" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if want == "" {
			if res.StatusCode != 400 && res.StatusCode != 404 {
				t.Errorf("%s: %d %s", path, res.StatusCode, body)
			}
			continue
		}
		if res.StatusCode != http.StatusBadRequest || string(body) != `{"message":"`+want+"\"}\n" {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
}

// A container-wide MAC address is that of its endpoint, up to 1.51.
func TestContainerWideMACAddress(t *testing.T) {
	e := engine(t)
	const mac = "02:42:ac:11:22:33"
	body := map[string]any{"Image": "bb", "MacAddress": mac, "Cmd": []string{"sleep", "1000"}}
	for version, want := range map[string]bool{"1.24": true, "1.43": true, "1.51": true, "1.52": false} {
		a := newAPI(t, e, version)
		id := a.create("", body)
		a.start(id)
		var v map[string]any
		newAPI(t, e, "1.56").do(req{method: "GET", path: "/containers/{id}/json", id: id, want: 200}).into(t, &v)
		if got, _ := dig(v, "NetworkSettings.Networks.bridge.MacAddress"); (got == mac) != want {
			t.Errorf("v%s: the address is %v", version, got)
		}
		a.remove(id)
	}
	a := newAPI(t, e, "1.43")
	a.do(req{method: "POST", path: "/containers/create", body: map[string]any{"Image": "bb", "MacAddress": "nonsense"}, want: 400})
	a.do(req{method: "POST", path: "/containers/create", body: map[string]any{"Image": "bb", "MacAddress": mac,
		"NetworkingConfig": map[string]any{"EndpointsConfig": map[string]any{"bridge": map[string]string{"MacAddress": "02:42:ac:11:22:44"}}}}, want: 400})
}
