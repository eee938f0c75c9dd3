package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// How long tokens last: long enough for an upload to begin, short enough that rights taken away are gone soon. A refresh token
// stands for a password.
const (
	tokenLife   = 5 * time.Minute
	refreshLife = 90 * 24 * time.Hour
)

// maxScopes bounds what one token is asked for.
const maxScopes = 100

// ownIssuer is the issuer of the registry's own tokens; refresh tokens are for another audience, so that one is no other.
const (
	ownIssuer       = "gantry-registry"
	refreshAudience = "gantry-registry-refresh"
)

// Issuer hands out tokens to the users of an htpasswd file.
type Issuer struct {
	passwords *Passwords
	rights    *Rights
	service   string
	signer    jose.Signer
	verifier  *Verifier
}

// NewIssuer makes the issuer, with its key from a file that is made if it is missing, and the verifier of its tokens.
func NewIssuer(keyFile, service, realm string, p *Passwords, r *Rights) (*Issuer, *Verifier, error) {
	key, err := ownKey(keyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("the key of the token issuer: %w", err)
	}
	v := &Verifier{Issuer: ownIssuer, Service: service, Realm: realm, keys: map[string]crypto.PublicKey{}, roots: x509.NewCertPool()}
	if err := v.trust(key.Public()); err != nil {
		return nil, nil, err
	}
	thumb, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, nil, err
	}
	opts := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", base64.RawURLEncoding.EncodeToString(thumb))
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, opts)
	if err != nil {
		return nil, nil, err
	}
	return &Issuer{passwords: p, rights: r, service: service, signer: s, verifier: v}, v, nil
}

func ownKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			return nil, err
		}
		return k, atomicfile.Write(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s has no PEM block", path)
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

// answer is what the token endpoint gives.
type answer struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	ExpiresIn    int    `json:"expires_in"`
	IssuedAt     string `json:"issued_at"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
}

// ServeHTTP answers both ways of asking for a token: GET with a password in the header, and OAuth's POST with a password or a
// refresh token in a form.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := i.answer(w, r)
	if err != nil {
		e := refusal.Of(err)
		if e.Code.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", i.service))
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(e.Code.Status)
		_, _ = w.Write(e.Body())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(out)
}

func (i *Issuer) answer(w http.ResponseWriter, r *http.Request) (out answer, err error) {
	var user string
	var refresh bool
	r.Body = http.MaxBytesReader(w, r.Body, maxToken)
	switch r.Method {
	case http.MethodGet:
		if user, err = i.basic(r); err != nil {
			return out, err
		}
		refresh = user != "" && r.URL.Query().Get("offline_token") == "true"
	case http.MethodPost:
		if err := r.ParseForm(); err != nil {
			return out, refusal.Unsupported.New("the form cannot be read: %w", err)
		}
		if user, err = i.form(r); err != nil {
			return out, err
		}
		refresh = r.PostForm.Get("access_type") == "offline"
	default:
		w.Header().Set("Allow", "GET, POST")
		return out, refusal.Unsupported.New("tokens are asked for with GET or POST")
	}
	if s := r.Form.Get("service"); s != "" && s != i.service {
		return out, refusal.Denied.New("tokens for the service %q are not handed out here: this is %q", s, i.service)
	}
	scopes := r.URL.Query()["scope"]
	if r.Method == http.MethodPost {
		scopes = r.PostForm["scope"]
	}
	grants, err := i.grants(user, scopes)
	if err != nil {
		return out, err
	}
	if out.Token, err = i.sign(user, i.service, tokenLife, grants); err != nil {
		return out, err
	}
	out.AccessToken, out.ExpiresIn, out.IssuedAt = out.Token, int(tokenLife.Seconds()), time.Now().UTC().Format(time.RFC3339)
	out.Scope = strings.Join(scopes, " ")
	if refresh {
		out.RefreshToken, err = i.sign(user, refreshAudience, refreshLife, nil)
	}
	return out, err
}

func (i *Issuer) basic(r *http.Request) (string, error) {
	_ = r.ParseForm() // the query
	name, password, ok := r.BasicAuth()
	if !ok {
		return "", nil
	}
	if !i.passwords.Check(r.Context(), name, password) {
		return "", refusal.Unauthorized.New("the user name or the password is wrong")
	}
	return name, nil
}

func (i *Issuer) form(r *http.Request) (string, error) {
	switch kind := r.PostForm.Get("grant_type"); kind {
	case "password":
		name := r.PostForm.Get("username")
		if !i.passwords.Check(r.Context(), name, r.PostForm.Get("password")) {
			return "", refusal.Unauthorized.New("the user name or the password is wrong")
		}
		return name, nil
	case "refresh_token":
		v := *i.verifier
		v.Service = refreshAudience
		c, err := v.parse(r.PostForm.Get("refresh_token"))
		if err != nil || !i.passwords.knows(c.Subject) {
			return "", refusal.Unauthorized.New("the refresh token is not accepted: log in again")
		}
		return c.Subject, nil
	default:
		return "", refusal.Denied.New("grant_type %q is not known here: password and refresh_token are", kind)
	}
}

func (p *Passwords) knows(name string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.users[name] != nil
}

// grants gives what a user may do of what he asked for.
func (i *Issuer) grants(user string, scopes []string) ([]grant, error) {
	grants := []grant{}
	for _, s := range scopes {
		for word := range strings.FieldsSeq(s) {
			if len(grants) == maxScopes {
				return nil, refusal.Denied.New("more than %d scopes were asked for", maxScopes)
			}
			kind, rest, _ := strings.Cut(word, ":")
			at := strings.LastIndex(rest, ":")
			if kind != "repository" || at < 0 || naming.Repository(rest[:at]) != nil {
				continue // an unknown scope grants nothing
			}
			g := grant{Type: kind, Name: rest[:at], Actions: []string{}}
			asked := strings.Split(rest[at+1:], ",")
			for _, a := range []Action{Pull, Push, Delete} {
				if (slices.Contains(asked, string(a)) || slices.Contains(asked, "*")) && i.rights.May(user, g.Name, a) {
					g.Actions = append(g.Actions, string(a))
				}
			}
			grants = append(grants, g)
		}
	}
	return grants, nil
}

func (i *Issuer) sign(user, audience string, life time.Duration, grants []grant) (string, error) {
	now := time.Now()
	id := make([]byte, 12)
	_, _ = rand.Read(id)
	return jwt.Signed(i.signer).Claims(claims{
		Claims: jwt.Claims{
			Issuer: ownIssuer, Subject: user, Audience: jwt.Audience{audience}, ID: hex.EncodeToString(id),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(life)),
		},
		Access: grants,
	}).Serialize()
}
