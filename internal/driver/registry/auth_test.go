package registry

import (
	"context"
	"encoding/base64"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"

	fake "github.com/gantry-engine/gantry/internal/testkit/registry"
)

var (
	good = registry.AuthConfig{Username: "u", Password: "p"}
	bad  = registry.AuthConfig{Username: "u", Password: "wrong"}
)

func TestAPullShowsWhatTheRegistryWantsToSee(t *testing.T) {
	bearer := fake.Auth{Scheme: "bearer", User: "u", Password: "p", Identity: "who-i-am"}
	for _, c := range []struct {
		name   string
		server fake.Auth
		auth   registry.AuthConfig
		tokens []string // methods of the requests for a token
		denied bool
	}{
		{name: "password", server: fake.Auth{Scheme: "basic", User: "u", Password: "p"}, auth: good},
		{name: "password in one field", server: fake.Auth{Scheme: "basic", User: "u", Password: "p"}, auth: registry.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte("u:p"))}},
		{name: "wrong password", server: fake.Auth{Scheme: "basic", User: "u", Password: "p"}, auth: bad, denied: true},
		{name: "token", server: bearer, auth: good, tokens: []string{"POST"}},
		{name: "token of a server without POST", server: fake.Auth{Scheme: "bearer", User: "u", Password: "p", GetOnly: true}, auth: good, tokens: []string{"POST", "GET"}},
		{name: "token for strangers", server: fake.Auth{Scheme: "bearer", Anonymous: true}, tokens: []string{"GET"}},
		{name: "token for an identity", server: bearer, auth: registry.AuthConfig{IdentityToken: "who-i-am"}, tokens: []string{"POST"}},
		{name: "token for a wrong password", server: bearer, auth: bad, denied: true, tokens: []string{"POST", "GET"}},
		{name: "token for a wrong identity", server: bearer, auth: registry.AuthConfig{IdentityToken: "another"}, denied: true, tokens: []string{"POST", "GET"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := fake.New(t)
			reg.AddImage("app", "1", fake.Image{})
			reg.Require(c.server)
			cl, p := client(t, Config{})
			r := repository(t, cl, reg.Host+"/app", c.auth)
			_, err := r.Resolve(t.Context(), "1")
			if c.denied {
				wants(t, err, errdefs.ErrNotFound, "pull access denied for "+reg.Host+"/app, repository does not exist or may require 'docker login'")
			} else if err != nil {
				t.Fatal(err)
			} else if _, err := r.Tags(t.Context()); err != nil {
				t.Error(err)
			}
			var methods []string
			for _, e := range reg.Requests("", "^/token$") {
				methods = append(methods, e.Method)
				if !slices.Equal(e.Form["scope"], []string{"repository:app:pull"}) || e.Form.Get("service") != fake.Service {
					t.Errorf("a token was asked for with %v", e.Form)
				}
			}
			if !slices.Equal(methods, c.tokens) {
				t.Errorf("tokens were asked for with %v, want %v", methods, c.tokens)
			}
			if len(p.all) > 0 {
				t.Errorf("it was tried again after %v", p.all)
			}
		})
	}
}

func TestATokenThatHasExpiredIsReplaced(t *testing.T) {
	reg := fake.New(t)
	reg.AddImage("app", "1", fake.Image{})
	reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p"})
	cl, _ := client(t, Config{})
	r := repository(t, cl, reg.Host+"/app", good)
	for range 2 {
		if _, err := r.Resolve(t.Context(), "1"); err != nil {
			t.Fatal(err)
		}
		reg.Expire()
	}
	count(t, reg, "", "^/token$", 2)
}

func TestTransfersAtTheSameTimeShareAToken(t *testing.T) {
	reg := fake.New(t)
	d := reg.AddBlob("app", noise(100_000))
	reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p"})
	cl, _ := client(t, Config{})
	r := repository(t, cl, reg.Host+"/app", good)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := read(t, r, d, 0); err != nil || len(got) != 100_000 {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	count(t, reg, "", "^/token$", 1)
}

func TestATokenServerThatIsBusyIsAskedAgain(t *testing.T) {
	for _, fault := range []fake.Fault{{Status: 503}, {Status: 429}, {Method: "GET", Cut: -1}} {
		reg := fake.New(t)
		reg.AddImage("app", "1", fake.Image{})
		reg.Require(fake.Auth{Scheme: "bearer", Anonymous: true})
		fault.Path, fault.Times = "^/token$", 2
		reg.Break(fault)
		r, p := app(t, reg)
		if _, err := r.Resolve(t.Context(), "1"); err != nil {
			t.Error(err)
		}
		count(t, reg, "GET", "^/token$", 3)
		if len(p.all) != 2 {
			t.Errorf("the pauses are %v", p.all)
		}
	}
}

func TestACancelledTransferDoesNotSpoilTheToken(t *testing.T) {
	reg := fake.New(t)
	reg.AddImage("app", "1", fake.Image{})
	reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p"})
	reg.Break(fake.Fault{Path: "^/token$", Hang: true, Times: 1})
	cl, _ := client(t, Config{})
	r := repository(t, cl, reg.Host+"/app", good)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for len(reg.Requests("", "^/token$")) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err := r.Resolve(ctx, "1")
	wants(t, err, context.Canceled)
	if _, err := r.Resolve(t.Context(), "1"); err != nil {
		t.Error(err)
	}
}

func TestATokenOfTheUsersThatIsRefusedIsNotSentAgain(t *testing.T) {
	reg := fake.New(t)
	reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p"})
	cl, _ := client(t, Config{})
	_, err := repository(t, cl, reg.Host+"/app", registry.AuthConfig{RegistryToken: "old"}).Tags(t.Context())
	wants(t, err, errdefs.ErrNotFound, "pull access denied")
	count(t, reg, "GET", "", 1)
}

func TestCredentialsThatCannotBeReadAreRefused(t *testing.T) {
	reg := fake.New(t)
	reg.Require(fake.Auth{Scheme: "basic", User: "u", Password: "p"})
	cl, _ := client(t, Config{})
	for _, auth := range []string{"%", base64.StdEncoding.EncodeToString([]byte("nobody"))} {
		_, err := repository(t, cl, reg.Host+"/app", registry.AuthConfig{Auth: auth}).Resolve(t.Context(), "1")
		wants(t, err, errdefs.ErrInvalidArgument, "not base64 of user:password")
	}
}

func TestAnUploadSurvivesTheEndOfItsToken(t *testing.T) {
	reg := fake.New(t)
	reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p"})
	cl, _ := client(t, Config{})
	r := repository(t, cl, reg.Host+"/app", good)
	c := &content{bytes: noise(100_000)}
	if _, err := r.Upload(t.Context(), c.descriptor(), nil, func(offset int64) (io.ReadCloser, error) {
		if len(c.opened) == 0 {
			reg.Expire()
		}
		return c.open(offset)
	}); err != nil {
		t.Fatal(err)
	}
	arrived(t, reg, c)
}

func TestARegistryThatIsNeverContentIsLeft(t *testing.T) {
	for _, challenge := range []string{"", "Negotiate", `Basic realm="x"`, `Bearer realm="%s/token",service="` + fake.Service + `"`, `Bearer realm="%s/token",service="` + fake.Service + `",error="invalid_token"`} {
		reg := fake.New(t)
		reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p"})
		reg.Break(fake.Fault{Path: "/v2/", Status: 401, Header: map[string]string{"Www-Authenticate": strings.ReplaceAll(challenge, "%s", reg.URL)}})
		cl, p := client(t, Config{})
		r := repository(t, cl, reg.Host+"/app", good)
		_, err := r.Resolve(t.Context(), "1")
		wants(t, err, errdefs.ErrNotFound, "pull access denied")
		if n := len(reg.Requests("", "/v2/")); n > 6 || len(p.all) > 0 {
			t.Errorf("%q: %d requests, pauses %v", challenge, n, p.all)
		}
	}
}

func TestLoginTriesCredentials(t *testing.T) {
	bearer := fake.Auth{Scheme: "bearer", User: "u", Password: "p"}
	identity := fake.Auth{Scheme: "bearer", User: "u", Password: "p", Identity: "who-i-am"}
	basic := fake.Auth{Scheme: "basic", User: "u", Password: "p"}
	for _, c := range []struct {
		name     string
		server   fake.Auth
		auth     registry.AuthConfig
		identity string
		text     string // of the error
		requests int
	}{
		{name: "basic", server: basic, auth: good, requests: 2},
		{name: "wrong basic", server: basic, auth: bad, text: "/v2/ failed with status: 401 Unauthorized", requests: 2},
		{name: "no password", server: basic, text: "no basic auth credentials", requests: 1},
		{name: "token", server: bearer, auth: good, requests: 2},
		{name: "wrong token", server: bearer, auth: bad, text: "unauthorized: incorrect username or password", requests: 1},
		{name: "token and identity", server: identity, auth: good, identity: "who-i-am", requests: 2},
		{name: "identity", server: identity, auth: registry.AuthConfig{IdentityToken: "who-i-am"}, identity: "who-i-am", requests: 2},
		{name: "wrong identity", server: identity, auth: registry.AuthConfig{IdentityToken: "x"}, text: "unauthorized: incorrect username or password", requests: 1},
		{name: "open to all", auth: bad, requests: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := fake.New(t)
			reg.Require(c.server)
			cl, _ := client(t, Config{})
			c.auth.ServerAddress = reg.URL
			token, err := cl.Login(t.Context(), c.auth)
			if c.text != "" {
				wants(t, err, errdefs.ErrUnauthenticated, c.text)
			} else if err != nil {
				t.Fatal(err)
			}
			if token != c.identity {
				t.Errorf("the identity token is %q, want %q", token, c.identity)
			}
			count(t, reg, "GET", "^/v2/$", c.requests)
		})
	}
}

func TestLoginAtABrokenRegistryDoesNotBlameThePassword(t *testing.T) {
	reg := fake.New(t)
	reg.Break(fake.Fault{Status: 500})
	cl, _ := client(t, Config{})
	_, err := cl.Login(t.Context(), registry.AuthConfig{Username: "u", Password: "p", ServerAddress: reg.Host})
	wants(t, err, errdefs.ErrUnavailable, "500")

	reg.Mend()
	reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p"})
	reg.Break(fake.Fault{Path: "/token", Status: 503})
	_, err = cl.Login(t.Context(), registry.AuthConfig{Username: "u", Password: "p", ServerAddress: reg.Host})
	wants(t, err, nil, "503")
	if errdefs.IsUnauthorized(err) {
		t.Errorf("the password is blamed: %v", err)
	}
}

func TestServerAddressesMeanHosts(t *testing.T) {
	for address, want := range map[string]string{
		"": Hub, "docker.io": Hub, "https://index.docker.io/v1/": Hub, "registry-1.docker.io": Hub,
		"example.com": "example.com", "https://example.com:5000/v2/": "example.com:5000", "http://127.0.0.1:5000": "127.0.0.1:5000",
	} {
		if got := ServerHost(address); got != want {
			t.Errorf("%q is %q, want %q", address, got, want)
		}
	}
}
