package access

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// algorithms that a token may be signed with: none with a shared secret.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

// maxToken bounds a token, in bytes.
const maxToken = 64 << 10

// leeway is how far clocks may be apart.
const leeway = time.Minute

// Verifier checks tokens, by the token specification of Docker's registry: who issued them, for which service, and what they
// allow.
type Verifier struct {
	Issuer  string
	Service string // the audience
	Realm   string // where clients get tokens; empty: at /token of this registry
	keys    map[string]crypto.PublicKey
	roots   *x509.CertPool // for tokens that bring their certificates along
}

// grant is one entry of a token's access claim.
type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

type claims struct {
	jwt.Claims
	Access []grant `json:"access"`
}

// LoadKeys reads who may sign: a JWKS file, or certificates or public keys in PEM. Either path may be empty.
func (v *Verifier) LoadKeys(jwks, certs string) error {
	v.keys, v.roots = map[string]crypto.PublicKey{}, x509.NewCertPool()
	if jwks != "" {
		if err := v.loadJWKS(jwks); err != nil {
			return err
		}
	}
	if certs != "" {
		if err := v.loadPEM(certs); err != nil {
			return err
		}
	}
	if len(v.keys) == 0 {
		return errors.New("no key that tokens could be signed with is configured")
	}
	return nil
}

func (v *Verifier) loadJWKS(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b, &set); err != nil {
		return fmt.Errorf("%s is no JSON web key set: %w", path, err)
	}
	for _, k := range set.Keys {
		if !k.Valid() || !k.IsPublic() {
			return fmt.Errorf("%s: the key %q is no valid public key", path, k.KeyID)
		}
		if k.KeyID != "" {
			v.keys[k.KeyID] = k.Key
		}
		if err := v.trust(k.Key); err != nil {
			return err
		}
	}
	return nil
}

func (v *Verifier) loadPEM(path string) error {
	rest, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil
		}
		switch block.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			v.roots.AddCert(c)
			if err := v.trust(c.PublicKey); err != nil {
				return err
			}
		case "PUBLIC KEY":
			k, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if err := v.trust(k); err != nil {
				return err
			}
		}
	}
}

// trust takes a key under the names that issuers give it: its thumbprint (RFC 7638), and the fingerprint of the token
// specification.
func (v *Verifier) trust(k crypto.PublicKey) error {
	thumb, err := (&jose.JSONWebKey{Key: k}).Thumbprint(crypto.SHA256)
	if err != nil {
		return err
	}
	print, err := fingerprint(k)
	if err != nil {
		return err
	}
	v.keys[base64.RawURLEncoding.EncodeToString(thumb)] = k
	v.keys[print] = k
	return nil
}

// fingerprint is the first 240 bits of the key's SHA-256 in base32, in twelve groups of four.
func fingerprint(k crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	s := base32.StdEncoding.EncodeToString(sum[:30])
	groups := slices.Collect(slices.Chunk([]byte(s), 4))
	words := make([]string, len(groups))
	for i, g := range groups {
		words[i] = string(g)
	}
	return strings.Join(words, ":"), nil
}

// Verify tells who a token names, and what it allows.
func (v *Verifier) Verify(raw string) (Identity, error) {
	c, err := v.parse(raw)
	if err != nil {
		return Identity{}, err
	}
	allows := func(kind, name, action string) bool {
		return slices.ContainsFunc(c.Access, func(g grant) bool {
			return g.Type == kind && g.Name == name && (slices.Contains(g.Actions, action) || slices.Contains(g.Actions, "*"))
		})
	}
	id := Identity{Name: c.Subject, wider: true, may: func(repo string, a Action) bool { return allows("repository", repo, string(a)) }}
	if allows("registry", "catalog", "*") {
		id.sees = func(string) bool { return true }
	}
	return id, nil
}

func (v *Verifier) parse(raw string) (c claims, err error) {
	if len(raw) > maxToken {
		return c, fmt.Errorf("it has more than %d bytes", maxToken)
	}
	t, err := jwt.ParseSigned(raw, algorithms)
	if err != nil {
		return c, err
	}
	if len(t.Headers) != 1 {
		return c, errors.New("one signature is needed")
	}
	key, err := v.key(t.Headers[0])
	if err != nil {
		return c, err
	}
	if err := t.Claims(key, &c); err != nil {
		return c, err
	}
	if c.Expiry == nil {
		return c, errors.New("it never expires")
	}
	return c, c.ValidateWithLeeway(jwt.Expected{Issuer: v.Issuer, AnyAudience: jwt.Audience{v.Service}, Time: time.Now()}, leeway)
}

// key finds the key that a token says it was signed with.
func (v *Verifier) key(h jose.Header) (crypto.PublicKey, error) {
	if chains, err := h.Certificates(x509.VerifyOptions{Roots: v.roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil && len(chains) > 0 {
		return chains[0][0].PublicKey, nil
	}
	if k, ok := v.keys[h.KeyID]; ok && h.KeyID != "" {
		return k, nil
	}
	if h.JSONWebKey != nil { // a key that is brought along counts only if it is one of ours
		if thumb, err := h.JSONWebKey.Thumbprint(crypto.SHA256); err == nil {
			if k, ok := v.keys[base64.RawURLEncoding.EncodeToString(thumb)]; ok {
				return k, nil
			}
		}
	}
	return nil, fmt.Errorf("it was signed with the key %q, which is not trusted", h.KeyID)
}
