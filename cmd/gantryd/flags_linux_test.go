package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/config"
	"github.com/gantry-engine/gantry/internal/testkit"
)

// reload writes daemon.json, sends SIGHUP and waits for the daemon to have taken it over.
func (p *process) reload(t *testing.T, file string) {
	t.Helper()
	const said = "reloaded the configuration"
	before := strings.Count(p.log.String(), said)
	stream, err := p.client().Get("http://d/events?filters=" + `{"event":["reload"]}`)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	write(t, p.dir+"/daemon.json", file)
	p.signal(t, syscall.SIGHUP)
	p.eventually(t, said, func() bool { return strings.Count(p.log.String(), said) > before })
	var ev any
	if err := json.NewDecoder(stream.Body).Decode(&ev); err != nil {
		t.Fatal(err)
	}
}

// Every flag of the table, given to the real executable: it takes what works and what has no
// meaning here, and refuses the rest by name.
func TestEveryFlagOfTheRealExecutable(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy.json")
	write(t, policy, `{"default":[{"type":"insecureAcceptAnything"}]}`)
	sample := map[string]string{
		"bool": "true", "int": "20", "ip": "10.0.0.1", "mapmap": "bridge=a=b", "bytes": "1m", "ulimit": "nofile=1:2", "map": "a=b", "list": "a=b", "string": "x",
		"--bip": "10.9.0.1/16", "--bridge-accept-fwmark": "1", "--bip6": "fd00::1/64", "--fixed-cidr-v6": "fd00::/80", "--default-gateway-v6": "fd00::9", "--default-address-pool": "base=10.0.0.0/8,size=24", "--fixed-cidr": "10.9.1.0/24", "--data-root": "/x", "--image-policy": policy, "--exec-root": "/x", "--log-level": "warn", "--log-format": "json", "--host": "unix:///x", "--dns": "9.9.9.9",
		"--default-cgroupns-mode": "host", "--default-ipc-mode": "shareable", "--default-runtime": "runc", "--exec-opt": "native.cgroupdriver=cgroupfs", "--host-gateway-ip": "10.0.0.1",
		"--storage-driver": "overlay2", "--dns-opt": "ndots:1", "--dns-search": "example.org", "--bridge": "none", "--seccomp-profile": "unconfined",
	}
	none := filepath.Join(t.TempDir(), "daemon.json")
	write(t, none, "{}")
	gantryd := filepath.Join(testkit.Bin(t), "gantryd")
	for _, o := range config.Options {
		if o.Flag == "" || o.Flag == "help" || o.Flag == "version" || o.Flag == "validate" || o.Flag == "config-file" {
			continue
		}
		value := sample["--"+o.Flag]
		if value == "" {
			value = sample[o.Type]
		}
		if value == "" {
			value = "a=b"
		}
		out, err := exec.Command(gantryd, "--validate", "--config-file", none, "--"+o.Flag+"="+value).CombinedOutput()
		if o.Status == config.Refused {
			if err == nil || !strings.Contains(string(out), "--"+o.Flag+" is not supported") {
				t.Errorf("--%s=%s: %v, %s", o.Flag, value, err, out)
			}
		} else if err != nil || strings.TrimSpace(string(out)) != "configuration OK" {
			t.Errorf("--%s=%s: %v, %s", o.Flag, value, err, out)
		}
	}
	for args, want := range map[string]string{
		"--storage-driver=zfs": `unknown storage-driver "zfs"`, "--default-stop-timeout=-7": "default-stop-timeout", "--default-cgroupns-mode=x": "default cgroup namespace mode",
		"--mtu=-1": "mtu", "--log-level=loud": "logging level", "--bip=x": "bip", "--bip6=10.0.0.1/8": "bip6", "--fixed-cidr-v6=x": "fixed-cidr-v6", "--default-gateway-v6=10.0.0.1": "default-gateway-v6", "--default-address-pool=base=10.0.0.0/8,size=7": "invalid pool size 7", "--default-address-pool=base=10.0.0.1/8,size=9": "it should be 10.0.0.0/8", "--default-address-pool=a=b": "base=10.10.0.0/16,size=24 is needed", "--default-network-opt=x": "driver=option=value", "--label=x": "bad attribute format", "--dns=x": "dns", "--exec-opt=x": "exec-opt", "--default-runtime=kata": "default runtime",
		"--default-shm-size=x": "default-shm-size", "--default-ulimit=x": "default-ulimit", "--host=ftp://x": "unsupported proto", "--data-root=relative": "absolute path", "--icc=false --iptables=false": "ICC=false uses iptables",
	} {
		out, err := exec.Command(gantryd, append([]string{"--validate", "--config-file", none}, strings.Fields(args)...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %q does not say %q", args, err, out, want)
		}
	}
}

// What has no meaning here is told in the log, once, with its reason.
func TestNotesInTheLog(t *testing.T) {
	p := launch(t, testkit.ShortTempDir(t), "--containerd=/run/c.sock", "--userland-proxy=false", "--log-format=json", "--storage-opt=a=b").ready(t)
	for _, flag := range []string{"--containerd", "--userland-proxy", "--storage-opt"} {
		if n := strings.Count(p.log.String(), flag+" has no effect: "); n != 1 {
			t.Errorf("%s is told %d times in\n%s", flag, n, p.log)
		}
	}
	for line := range strings.Lines(p.log.String()) {
		var entry struct{ Level, Msg, Time string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level == "" || entry.Msg == "" {
			t.Errorf("a line of the log is no JSON: %q, %v", line, err)
		}
	}
}

func TestReloadReachesTheContainers(t *testing.T) {
	dir := testkit.ShortTempDir(t)
	write(t, dir+"/daemon.json", `{"default-shm-size":"32MiB"}`)
	p := launch(t, dir).ready(t).image(t)
	if h := p.inspect(t, p.create(t, object{})).HostConfig; h.ShmSize != 32<<20 || h.Runtime != "gantry" {
		t.Errorf("before: %+v", h)
	}
	slow := p.run(t, stubborn, object{})
	p.reload(t, `{"default-shm-size":16777216,"default-runtime":"runc","default-stop-timeout":1}`)
	if h := p.inspect(t, p.create(t, object{})).HostConfig; h.ShmSize != 16<<20 || h.Runtime != "runc" {
		t.Errorf("after: %+v", h)
	}
	if b, _ := p.get("/info"); !strings.Contains(b, `"DefaultRuntime":"runc"`) {
		t.Errorf("info: %s", b)
	}
	begun := time.Now()
	p.call(t, "POST", "/containers/"+slow+"/stop", nil, 204)
	if took := time.Since(begun); took < 900*time.Millisecond || took > 6*time.Second {
		t.Errorf("stopping took %s, the time-out is 1 s", took)
	}
	p.remove(t)
}

func TestDefaultStopTimeout(t *testing.T) {
	p := launch(t, testkit.ShortTempDir(t), "--default-stop-timeout=0").ready(t).image(t)
	defaulted, own := p.run(t, stubborn, object{}), p.run(t, stubborn, object{"StopTimeout": 2})
	for id, least := range map[string]time.Duration{defaulted: 0, own: 1900 * time.Millisecond} {
		begun := time.Now()
		p.call(t, "POST", "/containers/"+id+"/stop", nil, 204)
		if took := time.Since(begun); took < least || took > least+4*time.Second {
			t.Errorf("stopping took %s, at least %s are meant", took, least)
		}
	}
	p.remove(t)
}

func TestStorageDrivers(t *testing.T) {
	for flag, want := range map[string]string{"": "overlayfs", "overlay2": "overlayfs", "copy": "copy", "vfs": "copy"} {
		p := launch(t, testkit.ShortTempDir(t), "--storage-driver="+flag).ready(t).image(t)
		if b, _ := p.get("/info"); !strings.Contains(b, `"Driver":"`+want+`"`) || !strings.Contains(b, `"Backing Filesystem"`) {
			t.Errorf("%q: %s", flag, b)
		}
		id := p.run(t, "echo written >/file; cat /file", object{})
		p.call(t, "POST", "/containers/"+id+"/wait", nil, 200)
		if out := p.logs(t, id); !strings.Contains(out, "written") {
			t.Errorf("%q: %q", flag, out)
		}
		if i := p.inspect(t, id); i.Driver != want {
			t.Errorf("%q: inspect says %s", flag, i.Driver)
		}
		p.remove(t)
		p.signal(t, syscall.SIGTERM)
		p.exit(t)
	}
}

// A mode that is asked for counts on cgroup v1 as well, where the default is the host's.
func TestDefaultCgroupNamespaceMode(t *testing.T) {
	v2 := there("/sys/fs/cgroup/cgroup.controllers")
	for flag, want := range map[string]string{"private": "private", "host": "host", "": map[bool]string{true: "private", false: "host"}[v2]} {
		var args []string
		if flag != "" {
			args = []string{"--default-cgroupns-mode", flag}
		}
		p := launch(t, testkit.ShortTempDir(t), args...).ready(t).image(t)
		id := p.run(t, "readlink /proc/self/ns/cgroup", object{})
		p.call(t, "POST", "/containers/"+id+"/wait", nil, 200)
		ours, err := os.Readlink("/proc/self/ns/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		if got := p.inspect(t, id).HostConfig.CgroupnsMode; got != want {
			t.Errorf("%q: the mode is %q, want %q", flag, got, want)
		}
		if same := strings.Contains(p.logs(t, id), ours); same != (want == "host") {
			t.Errorf("%q: the container shares the namespace: %v", flag, same)
		}
		p.remove(t)
	}
}

func anArchive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "f", Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Outgoing requests, here an import from an address, take the proxy of flags or file.
func TestProxies(t *testing.T) {
	archive := anArchive(t)
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- fmt.Sprint(r.Method, " ", r.URL, " ", r.Header.Get("Proxy-Authorization") != "")
		_, _ = w.Write(archive)
	}))
	defer proxy.Close()
	addr := "http://me:secret@" + strings.TrimPrefix(proxy.URL, "http://")
	for _, way := range []string{"flags", "file"} {
		dir := testkit.ShortTempDir(t)
		args := []string{"--http-proxy", addr, "--no-proxy", "direct.invalid"}
		if way == "file" {
			write(t, dir+"/daemon.json", `{"proxies":{"http-proxy":"`+addr+`","no-proxy":"direct.invalid"}}`)
			args = nil
		}
		p := launch(t, dir, args...).ready(t)
		p.call(t, "POST", "/images/create?fromSrc=http://images.invalid/x.tar&repo=imported", nil, 200)
		select {
		case got := <-asked:
			if got != "GET http://images.invalid/x.tar true" {
				t.Errorf("%s: the proxy was asked %s", way, got)
			}
		default:
			t.Errorf("%s: the proxy was not asked", way)
		}
		b := p.call(t, "POST", "/images/create?fromSrc=http://direct.invalid/x.tar&repo=imported", nil, 200)
		if len(asked) > 0 || !strings.Contains(string(b), "direct.invalid") || !strings.Contains(string(b), `"errorDetail"`) {
			t.Errorf("%s: what is to go direct: %d requests at the proxy, %s", way, len(asked), b)
		}
		if b, _ := p.get("/info"); !strings.Contains(b, `"HttpProxy":"http://xxxxx:xxxxx@`) || strings.Contains(b, "secret") || !strings.Contains(b, `"NoProxy":"direct.invalid"`) {
			t.Errorf("%s: info %s", way, b)
		}
		if strings.Contains(p.log.String(), "secret") {
			t.Errorf("%s: the log has the proxy's password", way)
		}
	}
}

// A private CA is trusted when the system's settings name it, as for every program in Go.
func TestPrivateCA(t *testing.T) {
	archive := anArchive(t)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive) }))
	defer srv.Close()
	from := "/images/create?repo=imported&fromSrc=" + srv.URL + "/x.tar"
	stranger := launch(t, testkit.ShortTempDir(t)).ready(t)
	if b := stranger.call(t, "POST", from, nil, 200); !strings.Contains(string(b), `"errorDetail"`) || !strings.Contains(string(b), "certificate") {
		t.Errorf("an unknown authority: %s", b)
	}
	file := filepath.Join(t.TempDir(), "trusted.pem")
	write(t, file, certPEM(srv))
	t.Setenv("SSL_CERT_FILE", file)
	if b := launch(t, testkit.ShortTempDir(t)).ready(t).call(t, "POST", from, nil, 200); !strings.Contains(string(b), `"status":"sha256:`) {
		t.Errorf("our authority: %s", b)
	}
}

// What the flags say of containers is what containers get.
func TestFlagsReachContainers(t *testing.T) {
	e := testkit.Start(t, testkit.Options{Args: []string{
		"--default-ulimit", "nofile=64:128", "--init", "--no-new-privileges", "--log-driver", "local", "--log-opt", "max-size=1m", "--default-ipc-mode", "shareable", "--default-shm-size", "3m",
		"--dns", "9.9.9.9", "--dns-opt", "ndots:3", "--dns-search", "example.org", "--host-gateway-ip", "10.1.2.3", "--seccomp-profile", "unconfined", "--mtu", "1400", "--label", "a=b", "--bip", "10.77.0.1/24", "--ip", "127.0.0.2",
	}})
	p := &process{dir: e.Dir, log: &output{}, done: make(chan struct{})}
	p.image(t)
	got := e.Must(t, "run", "--rm", "--add-host", "gate:host-gateway", "bb", "sh", "-c",
		`ulimit -Sn; ulimit -Hn; grep -o gantry-in /proc/1/comm; grep -E "NoNewPrivs|Seccomp:" /proc/self/status | tr -d "\t"; df -k /dev/shm | tail -1 | tr -s " " | cut -d" " -f2; grep -v "^#" /etc/resolv.conf; grep gate /etc/hosts | tr "\t" " "; cat /sys/class/net/eth0/mtu; ip -4 addr show eth0 | grep -om1 "inet 10.77.0"`)
	want := "64\n128\ngantry-in\nNoNewPrivs:1\nSeccomp:0\n3072\nnameserver 9.9.9.9\nsearch example.org\noptions ndots:3\n10.1.2.3 gate\n1400\ninet 10.77.0"
	if got != want {
		t.Errorf("the container saw\n%s\nwant\n%s", got, want)
	}
	e.Must(t, "create", "--name", "shown", "bb")
	if got := e.Must(t, "inspect", "-f", `{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config "max-size"}} {{.HostConfig.IpcMode}}`, "shown"); got != "local 1m shareable" {
		t.Errorf("inspect: %s", got)
	}
	e.Must(t, "run", "-d", "--name", "ports", "-p", "80", "bb", "sleep", "1000")
	if got := e.Must(t, "port", "ports"); !strings.Contains(got, "127.0.0.2:") {
		t.Errorf("ports: %s", got)
	}
	info := e.Must(t, "info", "--format", "{{json .SecurityOptions}} {{.LoggingDriver}} {{.Labels}}")
	if !strings.Contains(info, "no-new-privileges") || !strings.Contains(info, "profile=unconfined") || !strings.Contains(info, "local [a=b]") {
		t.Errorf("info: %s", info)
	}
}

func certPEM(srv *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
}
