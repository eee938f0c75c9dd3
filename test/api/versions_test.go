package api

import (
	"archive/tar"
	"bytes"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/server/httpapi"

	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

var spoken = []string{"1.24", "1.30", "1.40", "1.41", "1.44", "1.48", "1.52", "1.56", ""}

// less tells whether version a is before b; the empty one is the newest.
func less(a, b string) bool { return a != "" && httpapi.VersionLess(a, b) }

// Every endpoint, in every version of the list, on one engine: status, headers, and the
// answer's shape by the description that was published with the version.
func TestEveryEndpointInEveryVersion(t *testing.T) {
	e := engine(t)
	for _, v := range spoken {
		name := v
		if v == "" {
			name = "unversioned"
		}
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, e, v)
			a.system()
			a.images()
			a.volumes()
			a.networks()
			a.containers()
			a.execs()
			a.streams()
			a.prune()
			a.registries()
			a.absent()
		})
	}
	if t.Failed() {
		return
	}
	newest := newAPI(t, e, "").spec
	for _, op := range newest.Operations() {
		if seen.operations[op] == nil {
			t.Errorf("no test calls %s", op)
		}
	}
}

// gate calls an endpoint that began with a version: before, the engine says so.
func (a *api) gate(since string, r req) answer {
	a.t.Helper()
	if less(a.version, since) {
		r.want = http.StatusBadRequest
	}
	return a.do(r)
}

func (a *api) system() {
	a.do(req{method: "GET", path: "/_ping", want: 200, loose: true})
	a.do(req{method: "HEAD", path: "/_ping", want: 200, loose: true})
	a.do(req{method: "GET", path: "/version", want: 200})
	a.do(req{method: "GET", path: "/info", want: 200})
	a.gate("1.25", req{method: "GET", path: "/system/df", want: 200})
	if !less(a.version, "1.42") {
		a.do(req{method: "GET", path: "/system/df", query: "type=container&type=volume", want: 200})
		a.do(req{method: "GET", path: "/system/df", query: "type=nonsense", want: 400})
	}
	if !less(a.version, "1.52") {
		a.do(req{method: "GET", path: "/system/df", query: "verbose=1", want: 200})
	}
	a.do(req{method: "GET", path: "/events", query: "until=1&filters=nonsense", want: 400})
}

func (a *api) images() {
	raw, err := os.ReadFile(archive(a.t, a.e, "bb:latest"))
	if err != nil {
		a.t.Fatal(err)
	}
	a.do(req{method: "POST", path: "/images/load", query: "quiet=1", body: raw, header: http.Header{"Content-Type": {"application/x-tar"}}, want: 200, loose: true})
	a.do(req{method: "GET", path: "/images/json", query: "all=1&digests=1&shared-size=1&manifests=1", want: 200})
	a.do(req{method: "GET", path: "/images/json", query: form("filters", `{"nonsense":["1"]}`), want: 400})
	a.do(req{method: "GET", path: "/images/{name}/json", id: "bb", query: "manifests=1", want: 200})
	a.do(req{method: "GET", path: "/images/{name}/json", id: "nothing", want: 404})
	a.do(req{method: "GET", path: "/images/{name}/history", id: "bb", want: 200})
	a.do(req{method: "GET", path: "/images/{name}/history", id: "nothing", want: 404})
	a.gate("1.55", req{method: "GET", path: "/images/{name}/attestations", id: "bb", want: 200})
	a.do(req{method: "POST", path: "/images/{name}/tag", id: "bb", query: "repo=again&tag=v1", want: 201, loose: true})
	a.do(req{method: "POST", path: "/images/{name}/tag", id: "nothing", query: "repo=again", want: 404})
	a.do(req{method: "POST", path: "/images/{name}/tag", id: "bb", query: "repo=UPPER", want: 400})
	a.do(req{method: "GET", path: "/images/{name}/get", id: "bb", want: 200, loose: true})
	a.do(req{method: "GET", path: "/images/get", query: "names=bb&names=again:v1", want: 200, loose: true})
	a.do(req{method: "DELETE", path: "/images/{name}", id: "again:v1", want: 200})
	a.do(req{method: "DELETE", path: "/images/{name}", id: "again:v1", want: 404})
	a.do(req{method: "POST", path: "/images/create", query: "fromSrc=-&repo=imported&tag=v1&changes=CMD+true", body: smallTar(a.t), header: http.Header{"Content-Type": {"application/x-tar"}}, want: 200, loose: true})
	a.do(req{method: "DELETE", path: "/images/{name}", id: "imported:v1", query: "force=1", want: 200})
	a.gate("1.25", req{method: "POST", path: "/images/prune", want: 200})
	a.gate("1.31", req{method: "POST", path: "/build/prune", want: 200})
}

func smallTar(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: 3, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("hi\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (a *api) volumes() {
	a.do(req{method: "POST", path: "/volumes/create", body: map[string]any{"Name": "vol", "Labels": map[string]string{"a": "b"}}, want: 201})
	a.do(req{method: "GET", path: "/volumes", want: 200})
	a.do(req{method: "GET", path: "/volumes", query: form("filters", `{"nonsense":["1"]}`), want: 400})
	a.do(req{method: "GET", path: "/volumes/{name}", id: "vol", want: 200})
	a.do(req{method: "GET", path: "/volumes/{name}", id: "nothing", want: 404})
	a.gate("1.42", req{method: "PUT", path: "/volumes/{name}", id: "vol", query: "version=1", body: map[string]any{}, want: 503})
	a.do(req{method: "DELETE", path: "/volumes/{name}", id: "nothing", want: 404})
}

func (a *api) networks() {
	a.do(req{method: "GET", path: "/networks", want: 200})
	a.do(req{method: "GET", path: "/networks", query: form("filters", `{"driver":["bridge"]}`), want: 200})
	a.do(req{method: "GET", path: "/networks/{id}", id: "bridge", want: 200})
	a.do(req{method: "GET", path: "/networks/{id}", id: "nothing", want: 404})
	a.do(req{method: "POST", path: "/networks/create", body: map[string]any{"Name": ""}, want: 400})
	a.do(req{method: "POST", path: "/networks/{id}/connect", id: "nothing", body: map[string]any{"Container": "x"}, want: 404})
	a.do(req{method: "POST", path: "/networks/{id}/disconnect", id: "nothing", body: map[string]any{"Container": "x"}, want: 404})
	a.do(req{method: "DELETE", path: "/networks/{id}", id: "bridge", want: 403})
	a.do(req{method: "DELETE", path: "/networks/{id}", id: "nothing", want: 404})
}

// everything is a container with as many options as its description shows.
func everything(name string) map[string]any {
	return map[string]any{
		"Image": "bb", "Cmd": []string{"sh", "-c", "echo out; echo err >&2; cat"}, "OpenStdin": true, "AttachStdout": true,
		"Env": []string{"A=b"}, "Labels": map[string]string{"test": name}, "StopSignal": "SIGTERM", "StopTimeout": 1, "Hostname": "h",
		"ExposedPorts": map[string]any{"80/tcp": map[string]any{}}, "Volumes": map[string]any{"/anonymous": map[string]any{}},
		"Healthcheck": map[string]any{"Test": []string{"CMD-SHELL", "true"}, "Interval": 1000000000, "Timeout": 1000000000, "Retries": 1},
		"HostConfig": map[string]any{
			"Binds": []string{"vol:/data", "/etc:/host-etc:ro"}, "Memory": 64 << 20, "CpuShares": 512, "PidsLimit": 50,
			"PortBindings": map[string]any{"80/tcp": []map[string]string{{"HostIp": "127.0.0.1", "HostPort": ""}}},
			"Tmpfs":        map[string]string{"/tmp": "size=1m"}, "Ulimits": []map[string]any{{"Name": "nofile", "Soft": 64, "Hard": 128}},
			"RestartPolicy": map[string]any{"Name": "no"}, "CapAdd": []string{"NET_ADMIN"}, "ExtraHosts": []string{"x:127.0.0.1"},
			"Devices": []map[string]string{{"PathOnHost": "/dev/null", "PathInContainer": "/dev/xnull", "CgroupPermissions": "rwm"}},
			"Sysctls": map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}, "Annotations": map[string]string{"who": "test"},
			"Mounts":    []map[string]any{{"Type": "tmpfs", "Target": "/mnt/t", "TmpfsOptions": map[string]any{"SizeBytes": 1 << 20}}},
			"LogConfig": map[string]any{"Type": "json-file", "Config": map[string]string{"max-size": "1m"}},
		},
	}
}

// create makes a container and gives its ID.
func (a *api) create(name string, body map[string]any) string {
	a.t.Helper()
	r := a.do(req{method: "POST", path: "/containers/create", query: form("name", name), body: body, want: 201})
	var out struct{ ID string }
	r.into(a.t, &out)
	return out.ID
}

func (a *api) start(id string) {
	a.t.Helper()
	if r := a.do(req{method: "POST", path: "/containers/{id}/start", id: id, want: 204}); r.StatusCode != http.StatusNoContent {
		a.t.FailNow() // nothing that follows would make sense
	}
}

func (a *api) remove(id string) {
	a.t.Helper()
	a.do(req{method: "DELETE", path: "/containers/{id}", id: id, query: "force=1&v=1", want: 204})
}

func (a *api) containers() {
	id := a.create("all", everything("all"))
	a.do(req{method: "POST", path: "/containers/create", query: "name=all", body: everything("all"), want: 409})
	a.do(req{method: "GET", path: "/containers/{id}/json", id: id, want: 200})
	a.start(id)
	a.do(req{method: "POST", path: "/containers/{id}/start", id: id, want: 304})
	a.do(req{method: "GET", path: "/containers/{id}/json", id: id, query: "size=1", want: 200})
	a.do(req{method: "GET", path: "/containers/{id}/json", id: "/all", want: 200})
	a.do(req{method: "GET", path: "/containers/json", query: "all=1&size=1&limit=5", want: 200})
	a.do(req{method: "GET", path: "/containers/json", query: form("filters", `{"label":["test=all"],"status":["running"]}`), want: 200})
	a.do(req{method: "GET", path: "/containers/{id}/top", id: id, query: "ps_args=aux", want: 200})
	a.do(req{method: "GET", path: "/containers/{id}/stats", id: id, query: "stream=0&one-shot=1", want: 200})
	a.do(req{method: "GET", path: "/containers/{id}/changes", id: id, want: 200})
	a.do(req{method: "POST", path: "/containers/{id}/update", id: id, body: map[string]any{"CpuShares": 600, "RestartPolicy": map[string]any{"Name": "no"}}, want: 200})
	a.do(req{method: "POST", path: "/containers/{id}/rename", id: id, query: "name=renamed", want: 204})
	a.do(req{method: "POST", path: "/containers/{id}/pause", id: id, want: 204})
	a.do(req{method: "POST", path: "/containers/{id}/pause", id: id, want: 409})
	a.do(req{method: "POST", path: "/containers/{id}/unpause", id: id, want: 204})
	a.do(req{method: "PUT", path: "/containers/{id}/archive", id: id, query: "path=/tmp/..%2fdata", body: smallTar(a.t), header: http.Header{"Content-Type": {"application/x-tar"}}, want: 200})
	head := a.do(req{method: "HEAD", path: "/containers/{id}/archive", id: id, query: "path=/data/hello", want: 200})
	if head.Header.Get("X-Docker-Container-Path-Stat") == "" {
		a.t.Error("no path stat")
	}
	a.do(req{method: "GET", path: "/containers/{id}/archive", id: id, query: "path=/data/hello", want: 200, loose: true})
	a.do(req{method: "GET", path: "/containers/{id}/archive", id: id, query: "path=/nothing", want: 404})
	a.do(req{method: "GET", path: "/containers/{id}/export", id: id, want: 200, loose: true})
	a.do(req{method: "POST", path: "/commit", query: form("container", id, "repo", "committed", "comment", "c", "author", "me"), body: map[string]any{}, want: 201})
	a.do(req{method: "DELETE", path: "/images/{name}", id: "committed", query: "force=1", want: 200})
	a.do(req{method: "DELETE", path: "/containers/{id}", id: id, want: 409})
	a.do(req{method: "POST", path: "/containers/{id}/restart", id: id, query: "t=1", want: 204})
	a.do(req{method: "POST", path: "/containers/{id}/kill", id: id, query: "signal=KILL", want: 204})
	a.do(req{method: "POST", path: "/containers/{id}/wait", id: id, want: 200})
	a.do(req{method: "POST", path: "/containers/{id}/kill", id: id, want: 409})
	a.do(req{method: "POST", path: "/containers/{id}/stop", id: id, want: 304})
	a.do(req{method: "GET", path: "/containers/{id}/json", id: id, want: 200})
	a.do(req{method: "GET", path: "/containers/{id}/logs", id: id, query: "stdout=1&tail=1", want: 200, loose: true})
	a.do(req{method: "GET", path: "/containers/{id}/logs", id: id, want: 400})
	a.remove(id)
	for _, r := range []req{
		{method: "GET", path: "/containers/{id}/json"}, {method: "GET", path: "/containers/{id}/top"}, {method: "GET", path: "/containers/{id}/logs", query: "stdout=1"},
		{method: "GET", path: "/containers/{id}/changes"}, {method: "GET", path: "/containers/{id}/export"}, {method: "GET", path: "/containers/{id}/stats"},
		{method: "POST", path: "/containers/{id}/resize", query: "h=1&w=1"}, {method: "POST", path: "/containers/{id}/start"}, {method: "POST", path: "/containers/{id}/stop"},
		{method: "POST", path: "/containers/{id}/restart"}, {method: "POST", path: "/containers/{id}/kill"}, {method: "POST", path: "/containers/{id}/update", body: map[string]any{}},
		{method: "POST", path: "/containers/{id}/rename", query: "name=x"}, {method: "POST", path: "/containers/{id}/pause"}, {method: "POST", path: "/containers/{id}/unpause"},
		{method: "POST", path: "/containers/{id}/attach"}, {method: "GET", path: "/containers/{id}/attach/ws"}, {method: "POST", path: "/containers/{id}/wait"},
		{method: "DELETE", path: "/containers/{id}"}, {method: "HEAD", path: "/containers/{id}/archive", query: "path=/"}, {method: "GET", path: "/containers/{id}/archive", query: "path=/"},
		{method: "PUT", path: "/containers/{id}/archive", query: "path=/", body: smallTar(a.t)}, {method: "POST", path: "/containers/{id}/exec", body: map[string]any{"Cmd": []string{"true"}}},
		{method: "POST", path: "/exec/{id}/start", body: map[string]any{}}, {method: "POST", path: "/exec/{id}/resize", query: "h=1&w=1"}, {method: "GET", path: "/exec/{id}/json"},
	} {
		r.id, r.want = "nothing", 404
		r.loose = r.method == "HEAD"
		a.do(r)
	}
}

// sleeper is a container that runs until it is told to end.
func (a *api) sleeper(name string) string {
	a.t.Helper()
	id := a.create(name, map[string]any{"Image": "bb", "Cmd": []string{"sleep", "1000"}, "StopTimeout": 0})
	a.start(id)
	return id
}

func (a *api) execs() {
	id := a.sleeper("execs")
	defer a.remove(id)
	made := a.do(req{method: "POST", path: "/containers/{id}/exec", id: id, body: map[string]any{"Cmd": []string{"sh", "-c", "echo hi; exit 3"}, "AttachStdout": true, "Env": []string{"A=b"}, "WorkingDir": "/"}, want: 201})
	var x struct{ ID string }
	made.into(a.t, &x)
	a.do(req{method: "GET", path: "/exec/{id}/json", id: x.ID, want: 200})
	out := a.do(req{method: "POST", path: "/exec/{id}/start", id: x.ID, body: map[string]any{"Detach": false}, want: 200, loose: true})
	if !strings.HasSuffix(string(out.body), "hi\n") {
		a.t.Errorf("exec's output is %q", out.body)
	}
	var end struct {
		ExitCode *int
		Running  bool
	}
	a.do(req{method: "GET", path: "/exec/{id}/json", id: x.ID, want: 200}).into(a.t, &end)
	if end.ExitCode == nil || *end.ExitCode != 3 || end.Running {
		a.t.Errorf("exec ended with %+v", end)
	}
	a.do(req{method: "POST", path: "/exec/{id}/start", id: x.ID, body: map[string]any{}, want: 409})
	a.do(req{method: "POST", path: "/exec/{id}/resize", id: x.ID, query: "h=1&w=1", want: 404})
	tty := a.create("tty", map[string]any{"Image": "bb", "Cmd": []string{"sleep", "1000"}, "Tty": true})
	defer a.remove(tty)
	a.start(tty)
	a.do(req{method: "POST", path: "/containers/{id}/resize", id: tty, query: "h=10&w=20", want: 200, loose: true})
	a.do(req{method: "POST", path: "/containers/{id}/exec", id: tty, body: map[string]any{"Cmd": []string{"sleep", "1000"}, "Tty": true}, want: 201}).into(a.t, &x)
	a.do(req{method: "POST", path: "/exec/{id}/start", id: x.ID, body: map[string]any{"Detach": true, "Tty": true}, want: 200, loose: true})
	a.do(req{method: "POST", path: "/exec/{id}/resize", id: x.ID, query: "h=10&w=20", want: 200, loose: true})
	a.do(req{method: "POST", path: "/containers/{id}/exec", id: id, body: map[string]any{}, want: 400})
	a.do(req{method: "POST", path: "/containers/{id}/pause", id: id, want: 204})
	a.do(req{method: "POST", path: "/containers/{id}/exec", id: id, body: map[string]any{"Cmd": []string{"true"}}, want: 409})
	a.do(req{method: "POST", path: "/containers/{id}/unpause", id: id, want: 204})
}

func (a *api) streams() {
	id := a.create("streams", map[string]any{"Image": "bb", "Cmd": []string{"sh", "-c", "echo out; echo err >&2"}})
	defer a.remove(id)
	a.start(id)
	a.do(req{method: "POST", path: "/containers/{id}/wait", id: id, want: 200})
	logs := a.do(req{method: "GET", path: "/containers/{id}/logs", id: id, query: "stdout=1&stderr=1", want: 200, loose: true})
	want := "application/vnd.docker.multiplexed-stream"
	if less(a.version, "1.42") {
		want = "application/vnd.docker.raw-stream"
	}
	if got := logs.Header.Get("Content-Type"); got != want {
		a.t.Errorf("logs are %s, want %s", got, want)
	}
	a.do(req{method: "POST", path: "/containers/{id}/attach", id: id, query: "logs=1&stdout=1", want: 200, loose: true})
	events := a.do(req{method: "GET", path: "/events", query: form("since", "1", "until", now(a.t), "filters", `{"container":["`+id+`"]}`), want: 200, loose: true})
	for _, line := range strings.Split(strings.TrimSpace(string(events.body)), "\n") {
		for _, err := range a.spec.Response("GET", "/events", 200, []byte(line)) {
			if excused(a.version, "GET /events", err.Error()) == "" {
				a.t.Errorf("event %s: %v", line, err)
			}
		}
	}
}

func (a *api) prune() {
	a.create("to-prune", map[string]any{"Image": "bb"})
	r := a.gate("1.25", req{method: "POST", path: "/containers/prune", want: 200})
	if less(a.version, "1.25") {
		a.remove("to-prune")
	} else if !bytes.Contains(r.body, []byte(`"SpaceReclaimed"`)) {
		a.t.Errorf("prune answered %s", r.body)
	}
	a.gate("1.25", req{method: "POST", path: "/networks/prune", want: 200})
	a.gate("1.25", req{method: "POST", path: "/volumes/prune", query: form("filters", `{"all":["1"]}`), want: 200})
}

// absent are the endpoints of what the engine does not have yet: each says so clearly.
// registries plays what speaks to a registry.
func (a *api) registries() {
	r := registry.New(a.t)
	r.AddImage("app", "1", registry.Image{Layers: [][]byte{smallTar(a.t)}})
	name := r.Host + "/app"
	a.do(req{method: "POST", path: "/auth", body: map[string]string{"username": "u", "password": "p", "serveraddress": r.Host}, want: 200})
	a.do(req{method: "POST", path: "/auth", body: map[string]string{"username": "u", "password": "p", "serveraddress": "127.0.0.1:1"}, want: 500})
	a.do(req{method: "POST", path: "/images/create", query: "tag=1&fromImage=" + name, want: 200, loose: true})
	a.do(req{method: "POST", path: "/images/create", query: "tag=none&fromImage=" + name, want: 404})
	a.do(req{method: "POST", path: "/images/create", query: "fromImage=Bad!", want: 400})
	a.do(req{method: "POST", path: "/images/{name}/push", id: name, query: "tag=1", want: 200, loose: true})
	a.do(req{method: "POST", path: "/images/{name}/push", id: name, query: "tag=none", want: 404})
	// Version 1.30 describes the fields with capitals, which no engine has ever sent.
	a.gate("1.30", req{method: "GET", path: "/distribution/{name}/json", id: name + ":1", want: 200, loose: a.version == "1.30"})
	a.gate("1.30", req{method: "GET", path: "/distribution/{name}/json", id: name + ":none", want: 404})
	a.do(req{method: "GET", path: "/images/search", query: "term=" + name, want: 404}) // it has neither a search nor a catalog
	a.do(req{method: "GET", path: "/images/search", query: "limit=1000&term=x", want: 400})
	a.do(req{method: "DELETE", path: "/images/{name}", id: name + ":1", want: 200})
}

func (a *api) absent() {
	for _, r := range []req{
		{method: "POST", path: "/swarm/init", body: map[string]any{"ListenAddr": "127.0.0.1"}, want: 501}, {method: "POST", path: "/swarm/join", body: map[string]any{}, want: 501},
		{method: "POST", path: "/swarm/leave", want: 503}, {method: "POST", path: "/swarm/unlock", body: map[string]any{}, want: 503},
		{method: "GET", path: "/swarm", want: 503}, {method: "POST", path: "/swarm/update", query: "version=1", body: map[string]any{}, want: 503}, {method: "GET", path: "/swarm/unlockkey", want: 503},
		{method: "GET", path: "/nodes", want: 503}, {method: "GET", path: "/nodes/{id}", want: 503}, {method: "DELETE", path: "/nodes/{id}", want: 503}, {method: "POST", path: "/nodes/{id}/update", body: map[string]any{}, want: 503},
		{method: "GET", path: "/services", want: 503}, {method: "POST", path: "/services/create", body: map[string]any{}, want: 503}, {method: "GET", path: "/services/{id}", want: 503},
		{method: "DELETE", path: "/services/{id}", want: 503}, {method: "POST", path: "/services/{id}/update", body: map[string]any{}, want: 503}, {method: "GET", path: "/services/{id}/logs", want: 503},
		{method: "GET", path: "/tasks", want: 503}, {method: "GET", path: "/tasks/{id}", want: 503}, {method: "GET", path: "/tasks/{id}/logs", want: 503},
	} {
		r.id = "x"
		a.do(r)
	}
	for _, kind := range []string{"secrets", "configs"} {
		since := map[string]string{"secrets": "1.25", "configs": "1.30"}[kind]
		for _, r := range []req{
			{method: "GET", path: "/" + kind}, {method: "POST", path: "/" + kind + "/create", body: map[string]any{}}, {method: "GET", path: "/" + kind + "/{id}"},
			{method: "DELETE", path: "/" + kind + "/{id}"}, {method: "POST", path: "/" + kind + "/{id}/update", body: map[string]any{}},
		} {
			r.id, r.want = "x", 503
			a.gate(since, r)
		}
	}
	a.gate("1.25", req{method: "GET", path: "/plugins", want: 200})
	for _, r := range []req{
		{method: "GET", path: "/plugins/{name}/json", want: 404}, {method: "DELETE", path: "/plugins/{name}", want: 404}, {method: "POST", path: "/plugins/{name}/enable", want: 404},
		{method: "POST", path: "/plugins/{name}/disable", want: 404}, {method: "POST", path: "/plugins/{name}/push", want: 404}, {method: "POST", path: "/plugins/{name}/set", body: []string{}, want: 404},
		{method: "GET", path: "/plugins/privileges", query: "remote=x", want: 501}, {method: "POST", path: "/plugins/pull", query: "remote=x", want: 501}, {method: "POST", path: "/plugins/create", query: "name=x", want: 501},
	} {
		r.id = "x"
		a.gate("1.25", r)
	}
	a.gate("1.26", req{method: "POST", path: "/plugins/{name}/upgrade", id: "x", query: "remote=x", want: 404})
	a.do(req{method: "POST", path: "/build", body: smallTar(a.t), header: http.Header{"Content-Type": {"application/x-tar"}}, want: 501})
	a.gate("1.31", req{method: "POST", path: "/session", want: 501})
}
