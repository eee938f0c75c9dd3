package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// What the official client shows of /info is there and true.
func TestDockerInfo(t *testing.T) {
	e := engine(t, "-D", "--label", "tier=test", "--insecure-registry", "10.1.0.0/16", "--insecure-registry", "reg.example:5000", "--registry-mirror", "https://mirror.example", "--http-proxy", "http://u:p@proxy.example:1")
	e.Must(t, "run", "-d", "--name", "runs", "bb", "sleep", "1000")
	e.Must(t, "run", "-d", "--name", "pauses", "bb", "sleep", "1000")
	e.Must(t, "pause", "pauses")
	e.Must(t, "create", "bb")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	out := e.Must(t, "info")
	for _, want := range []string{
		"Containers: 3\n", "Running: 1\n", "Paused: 1\n", "Stopped: 1\n", "Images: 1\n", "Storage Driver: overlayfs\n", "Backing Filesystem: ", "Logging Driver: json-file\n", "Cgroup Driver: cgroupfs\n",
		"Volume: local\n", "Network: bridge ", "Log: json-file local none\n", "Swarm: inactive\n", "Default Runtime: gantry\n", "Init Binary: gantry-init\n",
		"seccomp\n", "Profile: builtin\n", "cgroupns\n", "OSType: linux\n", fmt.Sprintf("CPUs: %d\n", runtime.NumCPU()), "Name: " + host + "\n", "Docker Root Dir: " + e.DataRoot + "\n",
		"Debug Mode: true\n", "Goroutines: ", "File Descriptors: ", "EventsListeners: 0\n", "Experimental: false\n", "tier=test\n", "10.1.0.0/16\n", "reg.example:5000\n", "127.0.0.0/8\n", "https://mirror.example/\n",
		"HTTP Proxy: http://xxxxx:xxxxx@proxy.example:1\n", "Live Restore Enabled: true\n",
	} {
		if !strings.Contains(out+"\n", want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "%!") || strings.Contains(out, "u:p@") {
		t.Errorf("%s", out)
	}
	version := e.Must(t, "version")
	for _, want := range []string{"Server: Gantry Engine\n", "1.56 (minimum version 1.24)\n", "Go version:       " + runtime.Version() + "\n", "gantry-keeper:\n", "gantry-init:\n"} {
		if !strings.Contains(version, want) {
			t.Errorf("%q is not in\n%s", want, version)
		}
	}
	id := e.Must(t, "info", "--format", "{{.ID}}")
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	if again := e.Must(t, "info", "--format", "{{.ID}} {{.ContainersRunning}} {{.ContainersPaused}}"); again != id+" 1 1" {
		t.Errorf("after a restart: %s, before: %s", again, id)
	}
}

func TestDockerSystemDf(t *testing.T) {
	e := engine(t)
	e.Must(t, "run", "-d", "--name", "up", "-v", "used:/data", "bb", "sh", "-c", "dd if=/dev/zero of=/data/f bs=1k count=64 2>/dev/null; exec sleep 1000")
	e.Must(t, "run", "--name", "wrote", "bb", "sh", "-c", "dd if=/dev/zero of=/f bs=1k count=256 2>/dev/null")
	e.Must(t, "volume", "create", "unused")
	waitFor(t, func() bool { return strings.Contains(e.Must(t, "system", "df", "-v"), "65.54kB") })
	if got := e.Must(t, "system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"); got != "Images 1 1\nContainers 2 1\nLocal Volumes 2 1\nBuild Cache 0 0" {
		t.Errorf("df: %s", got)
	}
	if got := e.Must(t, "system", "df", "--format", "{{.Type}} {{.Size}} {{.Reclaimable}}"); !strings.Contains(got, "Local Volumes 65.54kB 0B") || !strings.Contains(got, "Containers 262.1kB 262.1kB (100%)") {
		t.Errorf("df: %s", got)
	}
	out := e.Must(t, "system", "df", "-v")
	var rows [][]string
	for line := range strings.Lines(out) {
		rows = append(rows, strings.Fields(line))
	}
	for _, want := range [][]string{{"bb", "latest"}, {"used", "1", "65.54kB"}, {"unused", "0", "0B"}, {"Build", "cache", "usage:", "0B"}} {
		if !slices.ContainsFunc(rows, func(r []string) bool { return len(r) >= len(want) && slices.Equal(r[:len(want)], want) }) {
			t.Errorf("no row %v in\n%s", want, out)
		}
	}
	a := newAPI(t, e, "1.56")
	for query, want := range map[string][]string{
		"": {"ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage"}, "type=container": {"ContainerUsage"}, "type=image&type=build-cache": {"ImageUsage", "BuildCacheUsage"}, "type=volume": {"VolumeUsage"},
	} {
		var got map[string]struct {
			TotalCount, ActiveCount, TotalSize, Reclaimable int64
			Items                                           []any
		}
		a.do(req{method: "GET", path: "/system/df", query: query + "&verbose=1", want: 200}).into(t, &got)
		if len(got) != len(want) {
			t.Errorf("%q gave %d kinds", query, len(got))
		}
		for _, k := range want {
			g, ok := got[k]
			if !ok || int(g.TotalCount) != len(g.Items) {
				t.Errorf("%q, %s: %+v", query, k, g)
			}
		}
		if g, ok := got["ContainerUsage"]; ok && (g.TotalCount != 2 || g.ActiveCount != 1 || g.Reclaimable != 256<<10) {
			t.Errorf("containers %+v", g)
		}
		if g, ok := got["VolumeUsage"]; ok && (g.TotalCount != 2 || g.ActiveCount != 1 || g.TotalSize != 64<<10 || g.Reclaimable != 0) {
			t.Errorf("volumes %+v", g)
		}
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 200 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("it never came")
}

// happen makes one of every kind of event, on container "web" of image "bb".
func happen(t *testing.T, e *testkit.Engine) {
	t.Helper()
	for _, args := range []string{
		"volume create data", "run -d --name web --label tier=front -v data:/d bb sleep 1000", "exec web true", "rename web web2", "rename web2 web", "update --cpu-shares 300 web", "pause web", "unpause web",
		"tag bb other:v1", "rmi other:v1", "commit web kept:v1", "rmi kept:v1", "cp web:/etc/passwd -", "kill -s USR1 web", "restart -t 0 web", "stop -t 0 web", "export -o " + e.Dir + "/export.tar web", "rm web", "volume rm data",
		"create --name gone bb", "container prune -f",
	} {
		e.Must(t, strings.Fields(args)...)
	}
}

func TestDockerEvents(t *testing.T) {
	e := engine(t)
	begun := time.Now()
	happen(t, e)
	time.Sleep(1100 * time.Millisecond) // the client's "until" is whole seconds
	events := func(filters ...string) []string {
		t.Helper()
		args := []string{"events", "--since", begun.Format(time.RFC3339Nano), "--until", "0s", "--format", "{{.Type}} {{.Action}}"}
		for _, f := range filters {
			args = append(args, "--filter", f)
		}
		out := e.Must(t, args...)
		if out == "" {
			return nil
		}
		return strings.Split(out, "\n")
	}
	all := events()
	for _, want := range []string{
		"volume create", "container create", "network connect", "volume mount", "container start", "container exec_create: true", "container exec_start: true", "container exec_die", "container rename", "container update",
		"container pause", "container unpause", "image tag", "image untag", "container commit", "container archive-path", "container kill", "container restart", "container die", "container stop", "network disconnect",
		"volume unmount", "container export", "container destroy", "volume destroy", "container prune", "image delete",
	} {
		if !slices.Contains(all, want) {
			t.Errorf("no event %q in %v", want, all)
		}
	}
	for filter, want := range map[string]func(string) bool{
		"type=volume":      func(s string) bool { return strings.HasPrefix(s, "volume ") },
		"event=exec_start": func(s string) bool { return s == "container exec_start: true" },
		"event=start":      func(s string) bool { return s == "container start" },
		"volume=data":      func(s string) bool { return strings.HasPrefix(s, "volume ") },
		"network=bridge":   func(s string) bool { return strings.HasPrefix(s, "network ") },
		"container=web":    func(s string) bool { return strings.HasPrefix(s, "container ") },
		"label=tier=front": func(s string) bool { return strings.HasPrefix(s, "container ") || strings.HasPrefix(s, "image ") }, // the committed one has it too
		"image=other:v1":   func(s string) bool { return strings.HasPrefix(s, "image ") },
		"scope=local":      func(string) bool { return true },
	} {
		got := events(filter)
		if len(got) == 0 {
			t.Errorf("--filter %s shows nothing", filter)
		}
		for _, s := range got {
			if !want(s) {
				t.Errorf("--filter %s shows %q", filter, s)
			}
		}
	}
	for _, filter := range []string{"type=plugin", "scope=swarm", "container=nobody", "label=tier=back", "event=nonsense", "daemon=other", "image=nothing", "volume=x", "network=x"} {
		if got := events(filter); len(got) > 0 {
			t.Errorf("--filter %s shows %v", filter, got)
		}
	}
	if got := events("type=container", "event=pause", "event=unpause"); !slices.Equal(slices.Compact(got), []string{"container pause", "container unpause", "container pause", "container unpause"}) {
		t.Errorf("two of a filter, the second time by commit: %v", got)
	}
	if got := events("container=web", "type=volume"); len(got) > 0 {
		t.Errorf("two filters: %v", got)
	}
	fails(t, e, "filter", "events", "--filter", "nonsense=1")
}

// fails runs the official client and wants it to end with 1, saying text.
func fails(t *testing.T, e *testkit.Engine, text string, args ...string) {
	t.Helper()
	out, errs, code := e.Docker(args...)
	if code != 1 || !strings.Contains(out+errs, text) {
		t.Errorf("docker %s: exit %d, %s%s", strings.Join(args, " "), code, out, errs)
	}
}

// Since and until cut at the nanosecond, in all forms of time.
func TestEventTimes(t *testing.T) {
	e := engine(t)
	a := newAPI(t, e, "1.56")
	for range 3 {
		a.do(req{method: "POST", path: "/volumes/create", body: map[string]any{}, want: 201})
	}
	type event struct {
		TimeNano int64 `json:"timeNano"`
	}
	get := func(query string) (list []event) {
		t.Helper()
		body := a.do(req{method: "GET", path: "/events", query: query + "&filters=" + `{"type":["volume"]}`, want: 200, loose: true}).body
		for dec := json.NewDecoder(strings.NewReader(string(body))); dec.More(); {
			var ev event
			if err := dec.Decode(&ev); err != nil {
				t.Fatal(err)
			}
			list = append(list, ev)
		}
		return list
	}
	all := get("since=1&until=" + now(t))
	if len(all) != 3 {
		t.Fatalf("%d events", len(all))
	}
	stamp := func(n int64) string { return fmt.Sprintf("%d.%09d", n/1e9, n%1e9) }
	middle := all[1].TimeNano
	for query, want := range map[string]int{
		"since=" + stamp(middle) + "&until=" + now(t): 2, "since=" + stamp(middle+1) + "&until=" + now(t): 1, "until=" + stamp(middle): 2, "until=" + stamp(middle-1): 1,
		"since=" + form("x", time.Unix(0, middle).UTC().Format(time.RFC3339Nano))[2:] + "&until=" + now(t): 2, "since=1h&until=" + now(t): 3, "since=" + now(t) + "&until=" + now(t): 0,
	} {
		if got := get(query); len(got) != want {
			t.Errorf("%s: %d events, want %d", query, len(got), want)
		}
	}
	begun := time.Now()
	until := begun.Add(700 * time.Millisecond)
	res, err := a.send(req{method: "GET", path: "/events", query: "until=" + stamp(until.UnixNano())})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	a.do(req{method: "POST", path: "/volumes/create", body: map[string]any{"Name": "live"}, want: 201})
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if took := time.Since(begun); err != nil || !strings.Contains(string(body), `"live"`) || took < 600*time.Millisecond || took > 10*time.Second {
		t.Errorf("a stream until then took %s: %s, %v", took, body, err)
	}
}

// From 1.52 on the stream's form is chosen by the client.
func TestEventMediaTypes(t *testing.T) {
	e := engine(t)
	for _, c := range []struct{ version, accept, want, begins string }{
		{"1.51", "application/json-seq", "application/json", "{"}, {"1.56", "", "application/json", "{"}, {"1.52", "application/x-ndjson", "application/x-ndjson", "{"},
		{"1.56", "application/json-seq", "application/json-seq", "\x1e{"}, {"1.53", "application/jsonl", "application/jsonl", "{"}, {"1.56", "text/html, application/jsonl;q=0.5", "application/jsonl", "{"},
		{"1.52", "application/jsonl", "application/json", "{"}, {"1.56", "text/html", "application/json", "{"},
	} {
		a := newAPI(t, e, c.version)
		h := http.Header{}
		if c.accept != "" {
			h.Set("Accept", c.accept)
		}
		res, err := a.send(req{method: "GET", path: "/events", query: "since=1&until=" + now(t), header: h})
		if err != nil {
			t.Fatal(err)
		}
		first, _ := bufio.NewReader(res.Body).ReadString('\n')
		_ = res.Body.Close()
		if got := res.Header.Get("Content-Type"); got != c.want || !strings.HasPrefix(first, c.begins) {
			t.Errorf("v%s Accept %q: %s, %.40q", c.version, c.accept, got, first)
		}
	}
}

func TestPing(t *testing.T) {
	e := engine(t)
	for _, v := range []string{"", "1.24", "1.56"} {
		for _, method := range []string{"GET", "HEAD"} {
			r := newAPI(t, e, v).do(req{method: method, path: "/_ping", want: 200, loose: true})
			h := r.Header
			if method == "GET" && string(r.body) != "OK" || method == "HEAD" && len(r.body) > 0 || h.Get("Builder-Version") == "" || h.Get("Swarm") != "inactive" ||
				h.Get("Cache-Control") != "no-cache, no-store, must-revalidate" || h.Get("Pragma") != "no-cache" || h.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("v%s %s: %q %v", v, method, r.body, h)
			}
		}
	}
}
