package registry

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"

	fake "github.com/gantry-engine/gantry/internal/testkit/registry"
)

// elsewhere is a registry's host under a name that is not this machine's, which the registry's certificate is for.
func elsewhere(t *testing.T, reg *fake.Registry) string {
	t.Helper()
	_, port, err := net.SplitHostPort(reg.Host)
	if err != nil {
		t.Fatal(err)
	}
	return "example.com:" + port
}

// certs makes a certs.d folder with a file for a host.
func certs(t *testing.T, host, file string, content []byte) string {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, host), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, host, file), content, 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestMirrorsAreAskedFirst(t *testing.T) {
	reg, mirror := fake.New(t), fake.New(t)
	d := reg.AddImage("app", "1", fake.Image{})
	mirror.AddImage("app", "1", fake.Image{})
	c, _ := client(t, Config{Mirrors: []string{reg.Host + "=" + mirror.URL}})
	r := repository(t, c, reg.Host+"/app", registry.AuthConfig{})
	if _, err := r.Resolve(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, r, d, 0); err != nil {
		t.Fatal(err)
	}
	count(t, mirror, "", "/manifests/", 2)
	count(t, reg, "", "", 0)
}

func TestAMirrorThatFailsIsPassedOver(t *testing.T) {
	for name, fault := range map[string]fake.Fault{
		"nothing there": {}, "not found": {Status: 404}, "broken": {Status: 500}, "forbidden": {Status: 403}, "secret": {Status: 401, Header: map[string]string{"Www-Authenticate": `Basic realm="x"`}},
		"cut off": {Cut: -1}, "in circles": {Redirect: true}, "lies": {Header: map[string]string{"Content-Length": "7", "Content-Type": "text/html"}},
	} {
		t.Run(name, func(t *testing.T) {
			reg, mirror := fake.New(t), fake.New(t)
			reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p"})
			d, b := reg.AddImage("app", "1", fake.Image{}), reg.AddBlob("app", noise(100))
			if name != "nothing there" {
				mirror.AddBlob("app", noise(100))
				mirror.Break(fault)
			}
			c, _ := client(t, Config{Mirrors: []string{reg.Host + "=" + mirror.URL}})
			r := repository(t, c, reg.Host+"/app", good)
			if got, err := r.Resolve(t.Context(), "1"); err != nil || got.Digest != d.Digest {
				t.Errorf("%v, %v", got, err)
			}
			got, err := read(t, r, b, 0)
			if err != nil {
				t.Error(err)
			}
			same(t, got, noise(100))
			for _, e := range mirror.Requests("", "") {
				if a := e.Header.Get("Authorization"); a != "" {
					t.Errorf("the mirror was shown %q", a)
				}
			}
		})
	}
}

func TestAMirrorThatIsDownIsPassedOver(t *testing.T) {
	reg := fake.New(t)
	d := reg.AddImage("app", "1", fake.Image{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	c, p := client(t, Config{Mirrors: []string{reg.Host + "=http://" + l.Addr().String()}})
	r := repository(t, c, reg.Host+"/app", registry.AuthConfig{})
	if got, err := r.Resolve(t.Context(), "1"); err != nil || got.Digest != d.Digest || len(p.all) > 0 {
		t.Errorf("%v, %v, pauses %v", got, err, p.all)
	}
}

func TestTheRegistryItselfGoesOnWhereItsMirrorBroke(t *testing.T) {
	reg, mirror := fake.New(t), fake.New(t)
	want := noise(1000)
	d := reg.AddBlob("app", want)
	mirror.AddBlob("app", want)
	mirror.Break(fake.Fault{Cut: 400, Times: 1}, fake.Fault{Cut: -1})
	c, _ := client(t, Config{Mirrors: []string{reg.Host + "=" + mirror.URL}, Attempts: 3})
	r := repository(t, c, reg.Host+"/app", registry.AuthConfig{})
	got, err := read(t, r, d, 0)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)
	once(t, append(count(t, mirror, "GET", "", 3), count(t, reg, "GET", "", 1)...))
}

func TestAMirrorGetsNothingToStore(t *testing.T) {
	reg, mirror := fake.New(t), fake.New(t)
	c, _ := client(t, Config{Mirrors: []string{reg.Host + "=" + mirror.URL}})
	r := repository(t, c, reg.Host+"/app", registry.AuthConfig{})
	blob := &content{bytes: noise(100)}
	if _, err := r.Upload(t.Context(), blob.descriptor(), nil, blob.open); err != nil {
		t.Error(err)
	}
	arrived(t, reg, blob)
	count(t, mirror, "", "", 0)
}

func TestTheUsersTokenIsForTheRegistryOnly(t *testing.T) {
	reg, mirror := fake.New(t), fake.New(t)
	reg.AddImage("app", "1", fake.Image{})
	hosts := fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", reg.URL, mirror.URL)
	c, _ := client(t, Config{CertDirs: []string{certs(t, reg.Host, "hosts.toml", []byte(hosts))}})
	r := repository(t, c, reg.Host+"/app", registry.AuthConfig{RegistryToken: "secret"})
	if _, err := r.Resolve(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	for _, e := range mirror.Requests("HEAD", "/v2/app/manifests/1") {
		if a := e.Header.Get("Authorization"); a != "" {
			t.Errorf("the mirror was shown %q", a)
		}
	}
	if len(mirror.Requests("", "")) == 0 {
		t.Error("the mirror was not asked")
	}
	if a := count(t, reg, "HEAD", "", 1)[0].Header.Get("Authorization"); a != "Bearer secret" {
		t.Errorf("the registry was shown %q", a)
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	reg, other := fake.NewTLS(t), fake.NewTLS(t)
	reg.AddImage("app", "1", fake.Image{})
	host := elsewhere(t, reg)
	own := certs(t, host, "ca.crt", reg.CA())
	for _, c := range []struct {
		name string
		host string
		cfg  Config
		text string // of the error
	}{
		{name: "unknown", host: host, text: "certificate"},
		{name: "known by a certs.d folder", host: host, cfg: Config{CertDirs: []string{t.TempDir(), own}}},
		{name: "known for another host only", host: host, cfg: Config{CertDirs: []string{certs(t, elsewhere(t, other), "ca.crt", reg.CA())}}, text: "certificate"},
		{name: "not checked at a host", host: host, cfg: Config{Insecure: []string{host}}},
		{name: "not checked at a name", host: host, cfg: Config{Insecure: []string{"example.com"}}},
		{name: "not checked at another name", host: host, cfg: Config{Insecure: []string{"example.org", "10.0.0.0/8"}}, text: "certificate"},
		{name: "not checked at this machine", host: reg.Host},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, p := client(t, c.cfg)
			_, err := repository(t, cl, c.host+"/app", registry.AuthConfig{}).Resolve(t.Context(), "1")
			if c.text != "" {
				wants(t, err, nil, c.text)
			} else if err != nil {
				t.Error(err)
			}
			if len(p.all) > 0 {
				t.Errorf("it was tried again after %v", p.all)
			}
		})
	}
}

func TestAnInsecureHostMayBeAMirror(t *testing.T) {
	reg, mirror := fake.New(t), fake.NewTLS(t)
	mirror.AddImage("app", "1", fake.Image{})
	for insecure, answers := range map[string]bool{"example.com": true, "example.org": false} {
		c, _ := client(t, Config{Mirrors: []string{reg.Host + "=https://" + elsewhere(t, mirror)}, Insecure: []string{insecure}})
		if _, err := repository(t, c, reg.Host+"/app", registry.AuthConfig{}).Resolve(t.Context(), "1"); (err == nil) != answers {
			t.Errorf("insecure %s: %v", insecure, err)
		}
	}
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, cfg := range []Config{
		{Mirrors: []string{"example.com"}}, {Mirrors: []string{"ftp://example.com"}}, {Mirrors: []string{"https://"}}, {Mirrors: []string{"https://u:p@example.com"}},
		{Mirrors: []string{"https://example.com?x=y"}}, {Mirrors: []string{"quay.io=example.com"}}, {Insecure: []string{"http://example.com"}},
	} {
		_, err := New(cfg, nil)
		wants(t, err, errdefs.ErrInvalidArgument)
	}
}

func TestClosingGivesConnectionsBack(t *testing.T) {
	for name, reg := range map[string]*fake.Registry{"http": fake.New(t), "https": fake.NewTLS(t)} {
		reg.AddImage("app", "1", fake.Image{})
		r, _ := app(t, reg)
		if _, err := r.Resolve(t.Context(), "1"); err != nil {
			t.Fatal(err)
		}
		if reg.Connections() == 0 {
			t.Errorf("%s: no connection was kept", name)
		}
		r.Close()
		for end := time.Now().Add(20 * time.Second); reg.Connections() > 0; time.Sleep(time.Millisecond) { // the server notices a little later
			if time.Now().After(end) {
				t.Fatalf("%s: %d connections are open", name, reg.Connections())
			}
		}
	}
}

func TestInsecureHostsAreNamedByHostPortOrRange(t *testing.T) {
	for _, c := range []struct {
		host string
		list []string
		want bool
	}{
		{"example.com", nil, false},
		{"example.com", []string{"example.com"}, true},
		{"example.com:5000", []string{"example.com"}, true},
		{"example.com:5000", []string{"example.com:5000"}, true},
		{"example.com:5001", []string{"example.com:5000"}, false},
		{"an.example.com", []string{"example.com"}, false},
		{"10.1.2.3:5000", []string{"192.168.0.0/16", "10.0.0.0/8"}, true},
		{"11.1.2.3:5000", []string{"10.0.0.0/8"}, false},
		{"[fd00::1]:5000", []string{"fd00::/8"}, true},
		{"[fd00::1]", []string{"fd00::/8"}, true},
		{"localhost:5000", []string{"127.0.0.0/8", "::1/128"}, true},
	} {
		if got := (&Config{Insecure: c.list}).insecure(c.host); got != c.want {
			t.Errorf("%s is insecure by %v: %v, want %v", c.host, c.list, got, c.want)
		}
	}
}

func TestDockerHubHasAHostAndMirrorsOfItsOwn(t *testing.T) {
	c, _ := client(t, Config{Mirrors: []string{"https://mirror.example.com/hub/", "quay.io=https://quay.example.com"}})
	for name, want := range map[string][]string{
		"busybox":            {"https://mirror.example.com/hub/v2", "https://registry-1.docker.io/v2"},
		"quay.io/app":        {"https://quay.example.com/v2", "https://quay.io/v2"},
		"example.com:80/app": {"https://example.com:80/v2"},
	} {
		r := repository(t, c, name, registry.AuthConfig{})
		var got []string
		for _, h := range r.hosts {
			got = append(got, h.Scheme+"://"+h.Host+h.Path)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s is at %v, want %v", name, got, want)
		}
	}
}

func TestWhatARegistrySaysDoesNotMoveTheCursor(t *testing.T) {
	reg := fake.New(t)
	reg.AddBlob("app", nil)
	reg.Break(fake.Fault{Status: 400, Body: `{"errors":[{"code":"X_Y","message":"\u001b[2Jgone\n\u009b1A` + strings.Repeat("ü", 2000) + `"}]}`})
	r, _ := app(t, reg)
	_, err := r.Resolve(t.Context(), "1")
	wants(t, err, errdefs.ErrInvalidArgument, "x y:  [2Jgone  1Aüü")
	if strings.ContainsAny(err.Error(), "\x1b\n\u009b") || len(err.Error()) > 1010 || !utf8.ValidString(err.Error()) {
		t.Errorf("%d bytes: %q", len(err.Error()), err)
	}
}

func TestDefaultRegistry(t *testing.T) {
	for def, want := range map[string][2]string{
		"":                         {"docker.io docker.io quay.io", "library/app team/app team/app"},
		"reg.example.com":          {"reg.example.com reg.example.com quay.io", "app team/app team/app"},
		"reg.example.com:5000/a/b": {"reg.example.com:5000 reg.example.com:5000 quay.io", "a/b/app a/b/team/app team/app"},
		"localhost":                {"localhost localhost quay.io", "app team/app team/app"},
	} {
		cfg := Config{Default: def}
		if err := cfg.check(); err != nil {
			t.Errorf("%q: %v", def, err)
			continue
		}
		var hosts, paths []string
		for _, n := range []string{"app", "team/app", "quay.io/team/app"} {
			named, _ := reference.ParseNormalizedNamed(n)
			h, p := cfg.place(named)
			hosts, paths = append(hosts, h), append(paths, p)
		}
		if got := [2]string{strings.Join(hosts, " "), strings.Join(paths, " ")}; got != want {
			t.Errorf("%q: %q, want %q", def, got, want)
		}
	}
	for _, def := range []string{"https://reg.example.com", "nohost", "reg.example.com/", "reg.example.com/UP", "reg.example.com:5000:1", " "} {
		if err := (&Config{Default: def}).check(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "a host is needed") {
			t.Errorf("%q: %v", def, err)
		}
	}
}

func TestTheDefaultRegistryStandsForDockerHub(t *testing.T) {
	reg := fake.New(t)
	reg.Require(fake.Auth{Scheme: "basic", User: "u", Password: "p"})
	d := reg.AddImage("team/app", "1", fake.Image{Layers: [][]byte{[]byte("x")}})
	cl, _ := client(t, Config{Default: reg.Host + "/team"})
	auth := registry.AuthConfig{Username: "u", Password: "p", ServerAddress: "https://index.docker.io/v1/"}
	if _, err := cl.Login(t.Context(), auth); err != nil {
		t.Errorf("login: %v", err)
	}
	auth.Password = "wrong"
	if _, err := cl.Login(t.Context(), auth); !errdefs.IsUnauthorized(err) {
		t.Errorf("login with a wrong password: %v", err)
	}
	auth.Password = "p"
	r := repository(t, cl, "app", auth)
	if got, err := r.Resolve(t.Context(), "1"); err != nil || got.Digest != d.Digest {
		t.Errorf("app:1 is %v, %v; it should be %v", got.Digest, err, d.Digest)
	}
	// What lies in another of its repositories is mounted by the name that it has there.
	blob := reg.AddBlob("team/lib/base", noise(100))
	if mounted, err := r.Upload(t.Context(), blob, []string{"lib/base"}, nil); err != nil || mounted != "lib/base" {
		t.Errorf("mounted from %q, %v", mounted, err)
	}
	if _, err := cl.Search(t.Context(), "app", 5, auth); err == nil || !strings.Contains(err.Error(), "searching "+reg.Host) {
		t.Errorf("searched elsewhere than in the default registry, which has no search: %v", err)
	}
}
