package sigstore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gantry-engine/gantry/internal/trust/program"
)

const (
	one = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	two = "sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
)

// key makes a pair of keys in PEM, the private one plain.
func key(t testing.TB, k crypto.Signer) (private, public []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	public, _, err = marshalPublic(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), public
}

func ec(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(t testing.TB, digest, name string, private []byte) program.Signature {
	t.Helper()
	s, err := Sign(program.Sign{Digest: digest, Name: name, Key: private})
	if err != nil {
		t.Fatal(err)
	}
	return program.Signature{Kind: program.Bundle, Content: s.Bundle}
}

func verdict(t testing.TB, q program.Verify) program.Verdict {
	t.Helper()
	v, err := Verify(q)
	if err != nil || len(v.Verdicts) != 1 {
		t.Fatal(v, err)
	}
	return v.Verdicts[0]
}

// wants is a verdict that refuses, with a reason.
func wants(t *testing.T, v program.Verdict, why string) {
	t.Helper()
	if v.Good || !strings.Contains(v.Why, why) {
		t.Errorf("%+v, want %q", v, why)
	}
}

// Keys of all kinds sign, and what they signed is verified with them only.
func TestKeys(t *testing.T) {
	_, other := key(t, ec(t, elliptic.P256()))
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]crypto.Signer{"P-256": ec(t, elliptic.P256()), "P-384": ec(t, elliptic.P384()), "P-521": ec(t, elliptic.P521()), "RSA": r, "Ed25519": e} {
		t.Run(name, func(t *testing.T) {
			private, public := key(t, k)
			s := signed(t, one, "a.io/x:1", private)
			v := verdict(t, program.Verify{Digest: one, Signatures: []program.Signature{s}, Keys: [][]byte{other, public}})
			_, id, _ := marshalPublic(k.Public())
			if !v.Good || v.By != id || len(v.Names) != 1 || v.Names[0] != "a.io/x:1" {
				t.Errorf("%+v", v)
			}
			wants(t, verdict(t, program.Verify{Digest: one, Signatures: []program.Signature{s}, Keys: [][]byte{other}}), "it is not by the key")
			wants(t, verdict(t, program.Verify{Digest: two, Signatures: []program.Signature{s}, Keys: [][]byte{other, public}}), "it is of another image: "+one)
		})
	}
}

// A key that was made here can be decrypted with its password only.
func TestKeygen(t *testing.T) {
	if _, err := Keygen(program.Keygen{}); err == nil {
		t.Error("a key without a password was made")
	}
	p, err := Keygen(program.Keygen{Password: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(program.Sign{Digest: one, Key: p.Private, Password: []byte("wrong")}); err == nil || !strings.Contains(err.Error(), "is the password right?") {
		t.Errorf("a wrong password: %v", err)
	}
	s, err := Sign(program.Sign{Digest: one, Key: p.Private, Password: []byte("secret")})
	if err != nil || s.By != p.ID {
		t.Fatal(s.By, p.ID, err)
	}
	v := verdict(t, program.Verify{Digest: one, Signatures: []program.Signature{{Kind: program.Bundle, Content: s.Bundle}}, Keys: [][]byte{p.Public}})
	if !v.Good || len(v.Names) != 0 {
		t.Errorf("%+v", v)
	}
	for text, want := range map[string]string{
		string(p.Public): "this is a public key", "x": "not in PEM", "-----BEGIN X-----\neA==\n-----END X-----\n": "no private key that is known",
		"-----BEGIN PRIVATE KEY-----\neA==\n-----END PRIVATE KEY-----\n": "cannot be read",
	} {
		if _, err := Sign(program.Sign{Digest: one, Key: []byte(text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What is signed but is no signature of the image does not count, and what was changed neither.
func TestWhatDoesNotCount(t *testing.T) {
	k := ec(t, elliptic.P256())
	private, public := key(t, k)
	p, err := newPair(k)
	if err != nil {
		t.Fatal(err)
	}
	bundleOf := func(payload, kind string) program.Signature {
		b, err := sign.Bundle(&sign.DSSEData{Data: []byte(payload), PayloadType: kind}, p, sign.BundleOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := protojson.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return program.Signature{Kind: program.Bundle, Content: out}
	}
	subjects := `"subject":[{"digest":{"sha256":"` + one[7:] + `"}}]`
	good := signed(t, one, "a.io/x:1", private)
	changed := func(from, to string) program.Signature {
		c := bytes.Replace(good.Content, []byte(from), []byte(to), 1)
		if bytes.Equal(c, good.Content) {
			t.Fatalf("%s is not in %s", from, good.Content)
		}
		return program.Signature{Kind: program.Bundle, Content: c}
	}
	payload := base64.StdEncoding.EncodeToString([]byte(`{"_type":"` + statementType + `",` + subjects + `,"predicateType":"` + predicate + `","predicate":{}}`))
	var raw struct{ DsseEnvelope struct{ Payload string } }
	if err := json.Unmarshal(good.Content, &raw); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		s    program.Signature
		want string
	}{
		"attestation":    {bundleOf(`{"_type":"`+statementType+`",`+subjects+`,"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}`, payloadType), "it is an attestation of the type"},
		"no subject":     {bundleOf(`{"_type":"`+statementType+`","subject":[],"predicateType":"`+predicate+`","predicate":{}}`, payloadType), "it is"},
		"other payload":  {bundleOf(`{`+subjects+`}`, "text/plain"), "it is"},
		"other text":     {changed(raw.DsseEnvelope.Payload, payload), "it is not by the key"},
		"garbage":        {program.Signature{Kind: program.Bundle, Content: []byte("\x00\x01")}, "it is no sigstore bundle"},
		"empty":          {program.Signature{Kind: program.Bundle}, "it is no sigstore bundle"},
		"empty object":   {program.Signature{Kind: program.Bundle, Content: []byte("{}")}, "it is no sigstore bundle"},
		"future version": {changed("v0.3", "v0.9"), "it is no sigstore bundle"},
		"no kind":        {program.Signature{Content: good.Content}, "is not known"},
		"not signed":     {program.Signature{Kind: program.Simple, Content: []byte("{}"), Sig: "AAAA"}, "it is not by the key"},
		"no base64":      {program.Signature{Kind: program.Simple, Content: []byte("{}"), Sig: "#"}, "base64"},
	} {
		t.Run(what, func(t *testing.T) {
			wants(t, verdict(t, program.Verify{Digest: one, Signatures: []program.Signature{c.s}, Keys: [][]byte{public}}), c.want)
		})
	}
	if v := verdict(t, program.Verify{Digest: one, Signatures: []program.Signature{good}, Keys: [][]byte{public}}); !v.Good {
		t.Errorf("the signature that was not changed: %+v", v)
	}
}

// Cosign's older form: the payload says which image, and the signature is of the payload.
func TestSimple(t *testing.T) {
	k := ec(t, elliptic.P384())
	_, public := key(t, k)
	for _, hash := range []crypto.Hash{crypto.SHA384, crypto.SHA256} { // as the curve wants it, and as older versions had it
		s, err := signature.LoadSigner(k, hash)
		if err != nil {
			t.Fatal(err)
		}
		simple := func(digest, kind string) program.Signature {
			payload := []byte(`{"critical":{"identity":{"docker-reference":"a.io/x"},"image":{"docker-manifest-digest":"` + digest + `"},"type":"` + kind + `"},"optional":null}`)
			sig, err := s.SignMessage(bytes.NewReader(payload))
			if err != nil {
				t.Fatal(err)
			}
			return program.Signature{Kind: program.Simple, Content: payload, Sig: base64.StdEncoding.EncodeToString(sig)}
		}
		ask := func(s program.Signature) program.Verdict {
			return verdict(t, program.Verify{Digest: one, Signatures: []program.Signature{s}, Keys: [][]byte{public}})
		}
		if v := ask(simple(one, "cosign container image signature")); !v.Good || v.Names[0] != "a.io/x" {
			t.Errorf("%v: %+v", hash, v)
		}
		wants(t, ask(simple(two, "cosign container image signature")), "it is of another image: "+two)
		wants(t, ask(simple(one, "something")), `it is of the type "something"`)
		moved := simple(one, "cosign container image signature")
		moved.Content = bytes.Replace(moved.Content, []byte("a.io/x"), []byte("a.io/y"), 1)
		wants(t, ask(moved), "it is not by the key")
	}
}

// An identity's certificate, its entry in the log and the time are verified against the authorities that are trusted.
func TestIdentity(t *testing.T) {
	mine, others := virtual(t), virtual(t)
	payload := []byte(`{"_type":"` + statementType + `","subject":[{"name":"a.io/x:1","digest":{"sha256":"` + one[7:] + `"}}],"predicateType":"` + predicate + `","predicate":{}}`)
	e, err := mine.Attest("ann@example.com", "https://issuer", payload)
	if err != nil {
		t.Fatal(err)
	}
	_, sum, _ := hexOf(one)
	_, wrong, _ := hexOf(two)
	for _, c := range []struct {
		root *ca.VirtualSigstore
		k    program.Keyless
		sum  []byte
		want string
	}{
		{mine, program.Keyless{Issuer: "https://issuer", Subject: "ann@example.com"}, sum, ""},
		{mine, program.Keyless{Issuer: "https://issuer", SubjectRE: `.*@example\.com`}, sum, ""},
		{mine, program.Keyless{Issuer: "https://issuer", SubjectRE: `ann@example`}, sum, "it is not by"},
		{mine, program.Keyless{Issuer: "https://issuer", Subject: "bob@example.com"}, sum, "it is not by bob@example.com of https://issuer"},
		{mine, program.Keyless{Issuer: "https://other", Subject: "ann@example.com"}, sum, "it is not by"},
		{others, program.Keyless{Issuer: "https://issuer", Subject: "ann@example.com"}, sum, "it is not by"},
		{mine, program.Keyless{Issuer: "https://issuer", Subject: "ann@example.com"}, wrong, "it is of another image"},
	} {
		tr, err := byIdentityOf(withoutCT{c.root}, c.k)
		if err != nil {
			t.Fatal(err)
		}
		v, err := judgeEntity(e, c.sum, []trusted{tr})
		if c.want == "" && (err != nil || !v.Good || v.Names[0] != "a.io/x:1") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %+v, %v", c.k, v, err)
		}
	}
	// The virtual authority's certificates are in no log of certificates; it says that it has one.
	tr, err := byIdentityOf(mine, program.Keyless{Issuer: "https://issuer", Subject: "ann@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := judgeEntity(e, sum, []trusted{tr}); err == nil {
		t.Errorf("a certificate that no log has: %+v", v)
	}
	if _, err := Verify(program.Verify{Digest: one, Keyless: &program.Keyless{Root: []byte("{}")}}); err == nil || !strings.Contains(err.Error(), "the trusted root cannot be read") {
		t.Errorf("an empty root: %v", err)
	}
}

func virtual(t *testing.T) *ca.VirtualSigstore {
	t.Helper()
	v, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// withoutCT is the virtual authority as one that knows no log of certificates.
type withoutCT struct{ *ca.VirtualSigstore }

func (withoutCT) CTLogs() map[string]*root.TransparencyLog { return nil }

// Whatever a registry gives: a verdict, and never a good one.
func FuzzVerify(f *testing.F) {
	k := ec(f, elliptic.P256())
	private, public := key(f, k)
	f.Add(signed(f, two, "a.io/x:1", private).Content, "")
	f.Add([]byte(`{"critical":{"image":{"docker-manifest-digest":"`+one+`"},"type":"cosign container image signature"}}`), "MEUCIQ==")
	f.Fuzz(func(t *testing.T, content []byte, sig string) {
		for _, kind := range []string{program.Bundle, program.Simple} {
			v, err := Verify(program.Verify{Digest: one, Signatures: []program.Signature{{Kind: kind, Content: content, Sig: sig}}, Keys: [][]byte{public}})
			if err != nil || len(v.Verdicts) != 1 || v.Verdicts[0].Good || v.Verdicts[0].Why == "" || strings.ContainsAny(v.Verdicts[0].Why, "\n\x1b") {
				t.Errorf("%q: %+v, %v", content, v, err)
			}
		}
	})
}
