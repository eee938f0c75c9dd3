package access

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

func TestRights(t *testing.T) {
	r := Rights{Groups: map[string][]string{"dev": {"bob"}}, Rules: []Rule{
		{Repositories: []naming.Pattern{"team/**"}, Groups: []string{"dev"}, Allow: []Action{Pull, Push}},
		{Repositories: []naming.Pattern{"**"}, Users: []string{AnyUser}, Allow: []Action{Pull}},
		{Repositories: []naming.Pattern{"public/*"}, Users: []string{Everybody}, Allow: []Action{Pull}},
		{Repositories: []naming.Pattern{"**"}, Users: []string{"root"}, Allow: []Action{Delete}},
	}}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, repo string
		a          Action
		want       bool
	}{
		{"bob", "team/a/b", Push, true}, {"bob", "other", Push, false}, {"bob", "other", Pull, true}, {"bob", "team/a", Delete, false},
		{"ann", "team/a", Push, false}, {"", "team/a", Pull, false}, {"", "public/x", Pull, true}, {"", "public/x/y", Pull, false}, {"root", "x", Delete, true},
	} {
		if got := r.May(c.user, c.repo, c.a); got != c.want {
			t.Errorf("%q may %s %s: %v", c.user, c.a, c.repo, got)
		}
	}
	open := Rights{Anonymous: true}
	if !open.May("", "x", Pull) || open.May("", "x", Push) || !open.May("ann", "x", Delete) {
		t.Error("without rules every user may do everything, and everybody pull")
	}
	for _, bad := range []Rule{{}, {Repositories: []naming.Pattern{"["}, Users: []string{"a"}, Allow: []Action{Pull}}, {Repositories: []naming.Pattern{"a"}, Groups: []string{"none"}, Allow: []Action{Pull}}} {
		if (&Rights{Rules: []Rule{bad}}).Check() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func passwords(t *testing.T, users ...string) (*Passwords, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	for _, u := range users {
		if err := SetUser(file, u, "secret of "+u); err != nil {
			t.Fatal(err)
		}
	}
	p, err := OpenPasswords(file)
	if err != nil {
		t.Fatal(err)
	}
	return p, file
}

func TestPasswords(t *testing.T) {
	p, file := passwords(t, "ann", "bob")
	for range 2 { // the second time from memory
		if !p.Check(t.Context(), "ann", "secret of ann") || p.Check(t.Context(), "ann", "secret of bob") || p.Check(t.Context(), "eve", "") {
			t.Error("the wrong ones are let in")
		}
	}
	if err := os.WriteFile(file, append([]byte("# kept\n"), read(t, file)...), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := SetUser(file, "ann", "new"); err != nil {
		t.Fatal(err)
	}
	if !p.Check(t.Context(), "ann", "secret of ann") {
		t.Error("the file is read again without being asked")
	}
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if p.Check(t.Context(), "ann", "secret of ann") || !p.Check(t.Context(), "ann", "new") {
		t.Error("an old password is remembered")
	}
	if err := RemoveUser(file, "bob"); err != nil {
		t.Fatal(err)
	}
	if names, err := ListUsers(file); err != nil || !slices.Equal(names, []string{"ann"}) {
		t.Errorf("%v %v", names, err)
	}
	if !strings.HasPrefix(string(read(t, file)), "# kept\n") {
		t.Errorf("%s", read(t, file))
	}
	if st, _ := os.Stat(file); st.Mode().Perm() != 0o640 && st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	if RemoveUser(file, "bob") == nil || SetUser(file, "a:b", "x") == nil || SetUser(file, "*", "x") == nil || SetUser(file, "c", strings.Repeat("x", 73)) == nil {
		t.Error("nonsense was taken")
	}
	if err := os.WriteFile(file, []byte("ann:$apr1$xx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Reload(); err == nil || !strings.Contains(err.Error(), "line 1") || !p.Check(t.Context(), "ann", "new") {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBasic(t *testing.T) {
	p, _ := passwords(t, "ann")
	g := &Guard{Realm: "r", Passwords: p, Rights: Rights{Anonymous: true}}
	r := httptest.NewRequest("GET", "/v2/", nil)
	id, err := g.Identify(r)
	if err != nil || id.Name != "" {
		t.Fatal(id, err)
	}
	if g.Admit(r, id, "x", Pull) != nil {
		t.Error("nobody may pull")
	}
	err = g.Admit(r, id, "x", Pull, Push)
	if e := refusal.Of(err); e.Code.Status != 401 || e.Challenge != `Basic realm="r"` {
		t.Errorf("%+v", e)
	}
	if refusal.Of(g.AdmitUser(r, id)).Code.Status != 401 {
		t.Error("/v2/ does not ask who is there")
	}
	r.SetBasicAuth("ann", "secret of ann")
	if id, err = g.Identify(r); err != nil || g.Admit(r, id, "x", Push) != nil || g.AdmitUser(r, id) != nil {
		t.Error(id, err)
	}
	r.SetBasicAuth("ann", "wrong")
	if _, err = g.Identify(r); refusal.Of(err).Code.Status != 401 {
		t.Error(err)
	}
	g.Rights = Rights{Rules: []Rule{{Repositories: []naming.Pattern{"a"}, Users: []string{"ann"}, Allow: []Action{Pull}}}}
	r.SetBasicAuth("ann", "secret of ann")
	id, _ = g.Identify(r)
	if refusal.Of(g.Admit(r, id, "b", Pull)).Code.Status != 403 {
		t.Error("a user without the right is not told so")
	}
}

// token asks the registry's own issuer.
func token(t *testing.T, i *Issuer, user, password string, q url.Values) (answer, int) {
	t.Helper()
	r := httptest.NewRequest("GET", "/token?"+q.Encode(), nil)
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	return issued(t, i, r)
}

func issued(t *testing.T, i *Issuer, r *http.Request) (a answer, status int) {
	t.Helper()
	w := httptest.NewRecorder()
	i.ServeHTTP(w, r)
	_ = json.Unmarshal(w.Body.Bytes(), &a)
	return a, w.Code
}

func TestOwnTokens(t *testing.T) {
	p, _ := passwords(t, "ann")
	g := &Guard{Passwords: p, Rights: Rights{Rules: []Rule{
		{Repositories: []naming.Pattern{"a/**"}, Users: []string{"ann"}, Allow: []Action{Pull, Push}},
		{Repositories: []naming.Pattern{"p"}, Users: []string{Everybody}, Allow: []Action{Pull}},
	}}}
	key := filepath.Join(t.TempDir(), "key")
	var err error
	if g.Issuer, g.Tokens, err = NewIssuer(key, "svc", "", p, &g.Rights); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "http://reg/v2/a/x/tags/list", nil)
	id, _ := g.Identify(r)
	e := refusal.Of(g.Admit(r, id, "a/x", Pull))
	if want := `Bearer realm="http://reg/token",service="svc",scope="repository:a/x:pull"`; e.Challenge != want {
		t.Errorf("%s, want %s", e.Challenge, want)
	}
	a, status := token(t, g.Issuer, "ann", "secret of ann", url.Values{"service": {"svc"}, "scope": {"repository:a/x:pull,push,delete", "repository:b:pull"}, "offline_token": {"true"}})
	if status != 200 || a.RefreshToken == "" || a.Token != a.AccessToken {
		t.Fatalf("%d %+v", status, a)
	}
	with := func(tok string) (Identity, error) {
		r.Header.Set("Authorization", "Bearer "+tok)
		return g.Identify(r)
	}
	if id, err = with(a.Token); err != nil {
		t.Fatal(err)
	}
	if !id.May("a/x", Push) || id.May("a/x", Delete) || id.May("a/y", Pull) || id.May("b", Pull) || !id.Sees("a/y") || id.Sees("b") || id.Name != "ann" {
		t.Error("the token allows something else than was asked for and is allowed")
	}
	if e := refusal.Of(g.Admit(r, id, "a/y", Pull)); !strings.Contains(e.Challenge, `error="insufficient_scope"`) {
		t.Errorf("%+v", e)
	}
	if _, err := with(a.RefreshToken); err == nil {
		t.Error("a refresh token is taken for a token")
	}
	form := func(v url.Values) (answer, int) {
		r := httptest.NewRequest("POST", "/token", strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return issued(t, g.Issuer, r)
	}
	again, status := form(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a.RefreshToken}, "service": {"svc"}, "scope": {"repository:a/x:pull"}})
	if id, err := with(again.Token); status != 200 || err != nil || !id.May("a/x", Pull) || id.May("a/x", Push) {
		t.Errorf("%d %v", status, err)
	}
	if _, status := form(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a.Token}}); status != 401 {
		t.Errorf("a token is taken for a refresh token: %d", status)
	}
	if _, status := form(url.Values{"grant_type": {"password"}, "username": {"ann"}, "password": {"no"}}); status != 401 {
		t.Errorf("%d", status)
	}
	if _, status := token(t, g.Issuer, "ann", "wrong", nil); status != 401 {
		t.Errorf("%d", status)
	}
	nobody, status := token(t, g.Issuer, "", "", url.Values{"scope": {"repository:p:pull repository:a/x:pull"}})
	if id, err := with(nobody.Token); status != 200 || err != nil || !id.May("p", Pull) || id.May("a/x", Pull) {
		t.Errorf("%d %v", status, err)
	}
	// The key outlives the process.
	_, v, err := NewIssuer(key, "svc", "", p, &g.Rights)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(a.Token); err != nil {
		t.Error(err)
	}
}

// foreign is an issuer with a key and a certificate of its own.
type foreign struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newForeign(t *testing.T) foreign {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return foreign{k, c}
}

func (f foreign) sign(t *testing.T, header map[string]any, c claims) string {
	t.Helper()
	o := &jose.SignerOptions{}
	for k, v := range header {
		o = o.WithHeader(jose.HeaderKey(k), v)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: f.key}, o)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jwt.Signed(s).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestForeignTokens(t *testing.T) {
	f, stranger := newForeign(t), newForeign(t)
	dir := t.TempDir()
	certs, jwks := filepath.Join(dir, "certs"), filepath.Join(dir, "jwks")
	if err := os.WriteFile(certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	set, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: f.key.Public(), KeyID: "one"}}})
	if err := os.WriteFile(jwks, set, 0o600); err != nil {
		t.Fatal(err)
	}
	good := claims{Claims: jwt.Claims{Issuer: "iss", Subject: "ann", Audience: jwt.Audience{"svc"}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))},
		Access: []grant{{Type: "repository", Name: "a", Actions: []string{"*"}}}}
	change := func(fn func(*claims)) claims {
		c := good
		fn(&c)
		return c
	}
	print, _ := fingerprint(f.key.Public())
	own, _ := jose.JSONWebKey{Key: stranger.key.Public()}.MarshalJSON()
	var brought map[string]any
	_ = json.Unmarshal(own, &brought)
	for name, c := range map[string]struct {
		token string
		ok    bool
	}{
		"by its name":      {f.sign(t, map[string]any{"kid": "one"}, good), true},
		"by a fingerprint": {f.sign(t, map[string]any{"kid": print}, good), true},
		"by a chain":       {f.sign(t, map[string]any{"x5c": [][]byte{f.cert.Raw}}, good), true},
		"a strange chain":  {stranger.sign(t, map[string]any{"x5c": [][]byte{stranger.cert.Raw}}, good), false},
		"a strange key":    {stranger.sign(t, map[string]any{"kid": "one"}, good), false},
		"a key brought":    {stranger.sign(t, map[string]any{"jwk": brought}, good), false},
		"no key":           {f.sign(t, nil, good), false},
		"expired":          {f.sign(t, map[string]any{"kid": "one"}, change(func(c *claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Hour)) })), false},
		"for ever":         {f.sign(t, map[string]any{"kid": "one"}, change(func(c *claims) { c.Expiry = nil })), false},
		"another service":  {f.sign(t, map[string]any{"kid": "one"}, change(func(c *claims) { c.Audience = jwt.Audience{"x"} })), false},
		"another issuer":   {f.sign(t, map[string]any{"kid": "one"}, change(func(c *claims) { c.Issuer = "x" })), false},
		"not yet":          {f.sign(t, map[string]any{"kid": "one"}, change(func(c *claims) { c.NotBefore = jwt.NewNumericDate(time.Now().Add(time.Hour)) })), false},
		"garbage":          {"a.b.c", false},
	} {
		v := &Verifier{Issuer: "iss", Service: "svc", Realm: "http://iss/token"}
		if err := v.LoadKeys(jwks, certs); err != nil {
			t.Fatal(err)
		}
		id, err := v.Verify(c.token)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if c.ok && (id.Name != "ann" || !id.May("a", Delete) || id.May("b", Pull)) {
			t.Errorf("%s: %+v", name, id)
		}
	}
	shared, _ := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: f.cert.RawSubjectPublicKeyInfo}, (&jose.SignerOptions{}).WithHeader("kid", "one"))
	raw, _ := jwt.Signed(shared).Claims(good).Serialize()
	v := &Verifier{Issuer: "iss", Service: "svc", keys: map[string]crypto.PublicKey{"one": f.key.Public()}}
	if _, err := v.Verify(raw); err == nil {
		t.Error("a token signed with the public key as a shared secret is taken")
	}
}

func TestPasswordsGiveUpWithTheirClient(t *testing.T) {
	p, _ := passwords(t, "ann")
	for range cap(p.turns) {
		p.turns <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p.Check(ctx, "ann", "secret of ann") {
		t.Error("a client that left was checked")
	}
}
