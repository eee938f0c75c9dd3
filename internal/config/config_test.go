package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/spf13/pflag"
)

func load(t testing.TB, argv0, file string, args ...string) (*Config, error) {
	t.Helper()
	if file != "" {
		p := filepath.Join(t.TempDir(), "daemon.json")
		if err := os.WriteFile(p, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config-file", p)
	}
	flags := pflag.NewFlagSet(argv0, pflag.ContinueOnError)
	l := NewLoader(argv0, flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	return l.Load(func(k string) string { return map[string]string{"HOME": "/root"}[k] })
}

// Every flag that dockerd has is in the table, under the same type and default;
// what differs is listed with its reason.
func TestEveryDockerdFlagIsClassified(t *testing.T) {
	data, err := os.ReadFile("testdata/dockerd.tsv")
	if err != nil {
		t.Fatal(err)
	}
	differs := map[string]string{
		"data-root": "Docker's own data root is never touched", "exec-root": "nor its exec root",
		"containerd-namespace": "no containerd", "containerd-plugins-namespace": "no containerd",
		"default-runtime": "the runtime is gantry", "network-control-plane-mtu": "no control plane",
		"tlscacert": "filled in after parsing", "tlscert": "filled in after parsing", "tlskey": "filled in after parsing",
		"userland-proxy": "there is none", "live-restore": "on here",
	}
	flags := pflag.NewFlagSet("dockerd", pflag.ContinueOnError)
	NewLoader("/usr/bin/dockerd", flags)
	listed := map[string]bool{"bridge-name": true, "image-policy": true, "disk-budget": true, "firewall-table": true, "lazy-pull": true, "default-registry": true, "respect-host-firewall": true, "": true}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(line, "\t")
		name, ok := strings.CutPrefix(f[0], "--")
		if !ok {
			continue
		}
		listed[name] = true
		i := slices.IndexFunc(Options, func(o Option) bool { return o.Flag == name })
		if i < 0 {
			t.Errorf("--%s is not in the table", name)
			continue
		}
		o := Options[i]
		if o.Type != f[2] || o.Short != strings.TrimPrefix(f[1], "-") {
			t.Errorf("--%s: type %s short %q, dockerd has %s %q", name, o.Type, o.Short, f[2], f[1])
		}
		if o.Status != Works && o.Status != Noted && o.Status != Refused {
			t.Errorf("--%s has status %q", name, o.Status)
		}
		flag := flags.Lookup(name)
		if flag == nil {
			if name != "help" && name != "version" {
				t.Errorf("--%s is not a flag", name)
			}
			continue
		}
		def := strings.Trim(f[3], "[]")
		if def == "map" {
			def = ""
		}
		got := flag.DefValue
		if def == "" && (got == "false" || got == "0") {
			got = ""
		}
		if got != def && differs[name] == "" {
			t.Errorf("--%s has default %q, dockerd %q", name, flag.DefValue, f[3])
		}
	}
	if len(listed) < 80 {
		t.Fatalf("only %d flags in dockerd.tsv", len(listed))
	}
	for _, o := range Options {
		if !listed[o.Flag] {
			t.Errorf("--%s is no flag of dockerd and not marked as our own", o.Flag)
		}
		if o.Own != (o.Flag == "bridge-name" || o.Flag == "image-policy" || o.Flag == "disk-budget" || o.Flag == "firewall-table" || o.Flag == "lazy-pull" || o.Flag == "default-registry" || o.Flag == "respect-host-firewall") {
			t.Errorf("--%s: Own is %v", o.Flag, o.Own)
		}
	}
}

// Refused options fail with their name, noted ones give a note, and giving the
// empty value is no reason to fail.
func TestStatusIsKept(t *testing.T) {
	sample := map[string]string{"bool": "true", "int": "1", "ip": "10.0.0.1", "mapmap": "bridge=a=b"}
	for _, o := range Options {
		if o.Flag == "" || o.Status == Works {
			continue
		}
		val := sample[o.Type]
		if val == "" {
			val = "a=b"
		}
		c, err := load(t, "gantryd", "", "--"+o.Flag+"="+val)
		switch o.Status {
		case Refused:
			if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "--"+o.Flag) {
				t.Errorf("--%s: %v", o.Flag, err)
			}
		case Noted:
			if err != nil || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "--"+o.Flag) {
				t.Errorf("--%s: %v, want one note", o.Flag, err)
			}
		}
	}
	if _, err := load(t, "gantryd", "", "--ipv6=false", "--rootless=false"); err != nil {
		t.Errorf("switching off what is not there: %v", err)
	}
	if _, err := load(t, "gantryd", `{"runtimes":{"x":{"path":"/x"}}}`); err == nil || !strings.Contains(err.Error(), "runtimes") {
		t.Errorf("runtimes in the file: %v", err)
	}
}

func TestFile(t *testing.T) {
	c, err := load(t, "gantryd", `{"debug":true,"labels":["a=b"],"log-opts":{"max-size":"10m","max-file":3},"proxies":{"http-proxy":"http://p:1"},
		"default-ulimits":{"nofile":{"Name":"nofile","Hard":9,"Soft":8}},"default-shm-size":"1M","hosts":["tcp://0.0.0.0","unix:///a"],"tls":false,"live-restore":false,
		"features":{"x":true},"builder":{"gc":{"enabled":true}},"host-gateway-ip":"10.0.0.1","userland-proxy":false}`)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Debug || c.LogLevel != "debug" || c.Labels[0] != "a=b" || c.LogOpts["max-file"] != "3" || c.HTTPProxy != "http://p:1" || c.LiveRestore ||
		c.DefaultUlimits["nofile"].Hard != 9 || c.DefaultShmSize != 1<<20 || !c.TLSGiven || c.HostGatewayIPs[0] != "10.0.0.1" {
		t.Errorf("%+v", c)
	}
	if want := []string{"tcp://0.0.0.0:2375", "unix:///a"}; !slices.Equal(c.Hosts, want) {
		t.Errorf("hosts %v", c.Hosts)
	}
	if len(c.Notes) != 3 {
		t.Errorf("notes %v", c.Notes)
	}
}

func TestFileErrors(t *testing.T) {
	for _, c := range []struct {
		file string
		args []string
		want string
	}{
		{`{"foo":1,"bar":2}`, nil, "the following directives don't match any configuration option: bar, foo"},
		{`{"labels":["x=1"],"debug":false}`, []string{"--label", "y=2", "-D"}, "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: false), labels: (from flag: [y=2], from file: [x=1])"},
		{`{"hosts":["unix:///x"]}`, []string{"-H", "unix:///y"}, "hosts: (from flag: [unix:///y], from file: [unix:///x])"},
		{`{"debug":"yes"}`, nil, "debug: "},
		{`{"debug":true`, nil, "unexpected end of JSON input"},
		{`[]`, nil, "cannot unmarshal"},
		{`{"proxies":{"htp-proxy":"x"}}`, nil, "proxies.htp-proxy"},
		{`{"labels":["x"]}`, nil, "bad attribute format: x"},
		{`{"log-level":"loud"}`, nil, "invalid logging level: loud"},
		{`{"dns":["nowhere"]}`, nil, "nowhere"},
		{`{"mtu":"big"}`, nil, "mtu: "},
		{`{"bip":"10.0.0.1"}`, nil, "bip"},
		{`{"hosts":["ftp://x"]}`, nil, "unsupported proto: ftp"},
		{`{"hosts":["npipe:////./pipe/x"]}`, nil, "Windows"},
		{`{"data-root":"here"}`, nil, "absolute"},
		{`{"bridge-accept-fwmark":"red"}`, nil, "0x1/0x3"},
		{`{"bridge-accept-fwmark":"1/0"}`, nil, "0x1/0x3"},
		{`{"bridge-accept-fwmark":"0x100000000"}`, nil, "32 bits"},
		{`{"respect-host-firewall":true,"iptables":false}`, nil, "packet rules"},
	} {
		_, err := load(t, "gantryd", c.file, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s %v:\n got %v\nwant %s", c.file, c.args, err, c.want)
		}
	}
	if _, err := load(t, "gantryd", "", "--config-file", "/does/not/exist"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file that was named: %v", err)
	}
	for _, empty := range []string{" ", "{}", "\ufeff{}"} {
		if _, err := load(t, "gantryd", empty); err != nil {
			t.Errorf("file %q: %v", empty, err)
		}
	}
}

func TestAcceptMark(t *testing.T) {
	for text, want := range map[string][2]uint32{"": {0, 0}, "1": {1, 1<<32 - 1}, "0x1/0x3": {1, 3}} {
		c, err := load(t, "gantryd", `{"bridge-accept-fwmark":"`+text+`"}`)
		if err != nil {
			t.Fatal(err)
		}
		if value, mask, err := c.AcceptMark(); err != nil || value != want[0] || mask != want[1] {
			t.Errorf("%q: %#x/%#x, %v; want %#x/%#x", text, value, mask, err, want[0], want[1])
		}
	}
}

func TestNames(t *testing.T) {
	g, err := load(t, "/usr/bin/gantryd", "{}")
	if err != nil || g.Hosts[0] != "unix:///run/gantry.sock" || g.DataRoot != "/var/lib/gantry" || !g.LiveRestore || g.BridgeName != "gantry0" || g.Pidfile != "/run/gantry.pid" {
		t.Errorf("gantryd: %v %+v", err, g)
	}
	d, err := load(t, "/usr/bin/dockerd", "{}")
	if err != nil || d.Hosts[0] != "unix:///var/run/docker.sock" || d.DataRoot != "/var/lib/gantry" || d.Pidfile != "/var/run/docker.pid" || d.Group != "docker" {
		t.Errorf("dockerd: %v %+v", err, d)
	}
}

func TestNormalizeHost(t *testing.T) {
	for in, want := range map[string]string{
		"": "unix:///def", "unix://": "unix:///def", "/x/y": "unix:///x/y", "tcp://": "tcp://localhost:2375", ":5555": "tcp://localhost:5555",
		"tcp://0.0.0.0": "tcp://0.0.0.0:2375", "tcp://[::1]:9": "tcp://[::1]:9", "tcp://::1": "tcp://[::1]:2375", "127.0.0.1:1": "tcp://127.0.0.1:1", "fd://": "fd://", "fd://2": "fd://2",
		"tcp://h:99999": "", "tcp://h:x": "", "tcp://h:1/path": "", "unix://rel": "", "npipe://x": "", "unix:///" + strings.Repeat("x", 108): "",
	} {
		got, err := NormalizeHost(in, false, "unix:///def")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	if got, _ := NormalizeHost("tcp://h", true, ""); got != "tcp://h:2376" {
		t.Errorf("TLS's port: %s", got)
	}
}

func TestReload(t *testing.T) {
	p := filepath.Join(t.TempDir(), "daemon.json")
	write := func(s string) {
		if err := os.WriteFile(p, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"labels":["a=1"]}`)
	args := []string{"--config-file", p, "--max-concurrent-downloads", "7"}
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	l := NewLoader("gantryd", flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	old, err := l.Load(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	write(`{"labels":["a=2"],"debug":true,"live-restore":false,"mtu":1400}`)
	fresh, changed, pending, err := Reload("gantryd", args, old, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	if !fresh.Debug || fresh.Labels[0] != "a=2" || fresh.LiveRestore || fresh.MTU != 1500 || fresh.MaxDownloads != 7 || old.Labels[0] != "a=1" {
		t.Errorf("%+v", fresh)
	}
	if !slices.Contains(changed, "live-restore") || !slices.Contains(changed, "debug") || !slices.Equal(pending, []string{"mtu"}) {
		t.Errorf("changed %v, pending %v", changed, pending)
	}
	write(`{"labels":`)
	if _, _, _, err := Reload("gantryd", args, old, os.Getenv); err == nil {
		t.Error("a broken file was taken")
	}
}

func FuzzFile(f *testing.F) {
	f.Add(`{"labels":["a=1"],"proxies":{"http-proxy":"x"},"default-shm-size":1}`)
	f.Add(`{"default-ulimits":{"x":{"Name":"x","Hard":1}}}`)
	f.Add(`{"hosts":["tcp://[::1"]}`)
	f.Fuzz(func(t *testing.T, s string) {
		flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
		l := NewLoader("gantryd", flags)
		if _, err := l.merge([]byte(s)); err == nil {
			_ = l.cfg.check()
		}
	})
}

func FuzzHost(f *testing.F) {
	f.Add("tcp://[::1]:80")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := NormalizeHost(s, false, "unix:///def")
		if err != nil {
			return
		}
		again, err := NormalizeHost(got, false, "unix:///def")
		if err != nil || again != got {
			t.Errorf("%q became %q, then %q, %v", s, got, again, err)
		}
	})
}
