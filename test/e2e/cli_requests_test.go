package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

// recorder is an engine that only writes down what it is asked for.
type recorder struct {
	mu    sync.Mutex
	query string
	body  map[string]any
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Api-Version", "1.50")
	w.Header().Set("Ostype", "linux")
	w.Header().Set("Content-Type", "application/json")
	switch path := req.URL.Path; {
	case strings.HasSuffix(path, "/_ping"):
		return
	case strings.HasPrefix(path, "/v1.5") && path[:6] > "/v1.50":
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"message":"client version `+path[2:6]+` is too new. Maximum supported API version is 1.50"}`)
		return
	}
	b, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.query, r.body = req.URL.RawQuery, nil
	_ = json.Unmarshal(b, &r.body)
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, `{"Id":"0123","Name":"x"}`)
}

// What flags mean: the same words make the same request as the official client's, as far as a field says something.
func TestCLIRequestsAreDockers(t *testing.T) {
	rec := &recorder{}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: rec}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{"env": "A=1\n# no\nB\n\nHOME\n", "labels": "x=y\n# no\nz\n", "seccomp.json": `{ "defaultAction": "SCMP_ACT_ALLOW" }`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newShell(t, "DOCKER_HOST=unix://"+l.Addr().String(), "COLOUR=red")
	for _, line := range []string{
		"create bb", "create -it --name n bb sh -c 'a b'", "create -a stdout bb", "create -d=false bb", "create --entrypoint '' bb", "create --entrypoint x bb y",
		"create -e A=1 -e COLOUR -e NOTSET --env-file DIR/env -l a=b -l c --label-file DIR/labels bb", "create -h h --domainname d -u 1:2 -w /w --stop-signal INT --stop-timeout 3 bb", "create --stop-timeout 0 bb",
		"create --rm --init --read-only --privileged bb", "create --init=false bb", "create --restart on-failure:3 bb", "create --restart unless-stopped bb", "create --log-driver none bb", "create --log-opt max-size=1m --log-driver json-file bb",
		"create -m 64m --memory-swap -1 --memory-reservation 32m --memory-swappiness 10 --oom-kill-disable --oom-score-adj 5 bb", "create --oom-kill-disable=false bb", "create --cpus 1.5 --cpu-shares 5 --cpuset-cpus 0-1 --cpuset-mems 0 bb",
		"create --cpu-period 1000 --cpu-quota 500 --cpu-rt-period 1 --cpu-rt-runtime 1 --pids-limit 9 --shm-size 1g bb", "create --pids-limit -1 bb", "create --blkio-weight 300 --blkio-weight-device /dev/sda:200 --device-read-bps /dev/sda:1mb --device-write-iops /dev/sda:7 bb",
		"create --ulimit nofile=1:2 --ulimit core=-1 bb", "create --device /dev/null --device /dev/zero:/dev/x:r --device-cgroup-rule 'c 1:3 rw' bb", "create --device vendor.com/class=name bb", "create --gpus all bb", "create --gpus device=1,capabilities=utility bb",
		"create --cap-add NET_ADMIN --cap-drop ALL --security-opt no-new-privileges --security-opt seccomp=unconfined --group-add 5 bb", "create --security-opt seccomp=DIR/seccomp.json bb", "create --security-opt systempaths=unconfined bb", "create --security-opt label:disable bb",
		"create --pid host --uts host --ipc shareable --cgroupns host --userns host bb", "create --sysctl a.b=c --annotation k=v --storage-opt size=1G --runtime r --isolation default --cgroup-parent /p bb",
		"create -v /a:/b:ro -v vol:/c -v /anon --tmpfs /t:size=1m --tmpfs /u --volumes-from o:ro --volume-driver vd bb", "create --mount type=bind,src=/a,dst=/b,ro,bind-propagation=rslave,bind-recursive=disabled bb",
		"create --mount type=volume,src=v,dst=/d,volume-driver=x,volume-opt=a=b,volume-label=l=m,volume-nocopy,volume-subpath=s bb", "create --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770 bb", "create --mount type=image,src=i,dst=/i,image-subpath=p bb",
		"create -p 80 -p 8080:80 -p 127.0.0.1:53:53/udp -p 9000-9002:9000-9002 -p '[::1]:1:1' --expose 7 --expose 10-12/udp -P bb", "create --network n --network-alias a --network-alias b --ip 10.0.0.2 --ip6 fd::2 --mac-address 02:00:00:00:00:01 --link-local-ip 169.254.1.1 bb",
		"create --network name=n,alias=x,driver-opt=a=b,ip=10.1.1.1 --network other bb", "create --network container:o bb", "create --network host bb", "create --network none bb", "create --link a:b --dns 1.1.1.1 --dns-search s --dns-option o --add-host h:1.2.3.4 --add-host g=host-gateway bb",
		"create --health-cmd 'curl x' --health-interval 5s --health-timeout 1s --health-retries 2 --health-start-period 1m --health-start-interval 1s bb", "create --no-healthcheck bb", "create --platform linux/arm64/v8 bb", "create --platform x86_64 bb",
		"exec -d -e A=1 -u u -w /w --privileged c true", "exec -d --env-file DIR/env --detach-keys ctrl-a c x y", "update -m 1g --memory-swap -1 --cpus 2 --restart always --pids-limit 0 c", "update --cpu-shares 3 --blkio-weight 10 --cpuset-cpus 1 --memory-reservation 3m c",
		"volume create", "volume create v -d local -o type=tmpfs -o device=x --label a=b", "network create n", "network create -d bridge --subnet 10.0.0.0/8 --ip-range 10.1.0.0/16 --gateway 10.0.0.1 --aux-address a=10.0.0.5 -o x=y --label l=m --internal --attachable --ipv6 n",
		"network create --ipv4=false --ipam-driver i --ipam-opt k=v --scope local n", "network connect --ip 10.0.0.2 --alias a --link x:y --driver-opt k=v --link-local-ip 169.254.1.1 --gw-priority 3 n c", "network disconnect -f n c",
		"commit -a me -m why -c 'CMD x' -p=false c repo:tag", "stop -t 3 -s INT c", "restart -t 0 c", "kill -s HUP c", "rm -f -v c", "rename a b", "tag a b:c", "tag a example.org/b", "pull bb", "pull -q example.org/a/b:c", "import http://x/y repo:tag",
	} {
		got := map[string]any{}
		for _, program := range []string{"docker", "as-docker"} {
			args := words(strings.ReplaceAll(line, "DIR", dir))
			rec.mu.Lock()
			rec.query, rec.body = "", nil
			rec.mu.Unlock()
			r := s.run(program, args...)
			if r.code != 0 {
				got[program] = r
				continue
			}
			rec.mu.Lock()
			got[program] = []any{rec.query, saying(rec.body)}
			rec.mu.Unlock()
		}
		if !reflect.DeepEqual(got["docker"], got["as-docker"]) {
			want, _ := json.Marshal(got["docker"])
			have, _ := json.Marshal(got["as-docker"])
			t.Errorf("%s:\nhave %s\nwant %s", line, have, want)
		}
	}
}

// saying leaves out of a JSON value what says nothing: null, false, 0, "", and objects and lists without anything.
func saying(v any) any {
	switch x := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range x {
			if k == "MemorySwappiness" && e == -1.0 {
				continue // an older word for "as it is"
			}
			if e = saying(e); e == nil {
				continue
			}
			if l, ok := e.([]any); ok && (k == "Binds" || k == "Env") { // docker goes through maps, in any order
				slices.SortFunc(l, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
			m[k] = e
		}
		if len(m) > 0 {
			return m
		}
	case []any:
		var l []any
		some := false
		for _, e := range x {
			e = saying(e)
			some = some || e != nil
			l = append(l, e)
		}
		if some {
			return l
		}
	case string, bool, float64:
		if !reflect.ValueOf(x).IsZero() {
			return x
		}
	}
	return nil
}
