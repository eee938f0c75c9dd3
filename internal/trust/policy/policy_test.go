package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

// publicKey makes a key in PEM.
func publicKey(t testing.TB) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func named(t testing.TB, s string) reference.Named {
	t.Helper()
	n, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const someDigest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// The most specific scope counts.
func TestFor(t *testing.T) {
	accept, reject := `[{"type":"insecureAcceptAnything"}]`, `[{"type":"reject"}]`
	p, err := Parse([]byte(`{"default":`+reject+`,"transports":{"docker":{
		"":`+accept+`, "*.example.com":`+reject+`, "*.b.example.com":`+accept+`, "a.b.example.com":`+accept+`,
		"r.io:5000/team":`+reject+`, "r.io:5000/team/app":`+accept+`, "r.io:5000/team/app:1":`+reject+`, "r.io:5000/team/app@`+someDigest+`":`+reject+`,
		"docker.io/library/busybox":`+reject+`}}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a.b.example.com/x":                       "a.b.example.com",
		"c.b.example.com/x":                       "*.b.example.com",
		"a.c.example.com/x":                       "*.example.com",
		"example.com/x":                           `""`,
		"r.io:5000/teams/x":                       `""`,
		"r.io:5000/team/x/y":                      "r.io:5000/team",
		"r.io:5000/team/app":                      "r.io:5000/team/app",
		"r.io:5000/team/app:2":                    "r.io:5000/team/app",
		"r.io:5000/team/app:1":                    "r.io:5000/team/app:1",
		"r.io:5000/team/app@" + someDigest:        "r.io:5000/team/app@" + someDigest,
		"r.io:5000/team/app:2@" + someDigest:      "r.io:5000/team/app@" + someDigest,
		"busybox:1":                               "docker.io/library/busybox",
		"index.docker.io/library/busybox":         "docker.io/library/busybox",
		"user/busybox":                            `""`,
		"r.io/team/app:1":                         `""`,
		"localhost/library/busybox@" + someDigest: `""`,
	} {
		if got := p.For(named(t, name)); got.Scope != want {
			t.Errorf("%s: the rule is %s, want %s", name, got.Scope, want)
		}
	}
	if r := p.For(named(t, "busybox")); r.Open() || !r.Closed() {
		t.Errorf("reject: %+v", r)
	}
	if r := p.For(named(t, "user/x")); !r.Open() || r.Closed() {
		t.Errorf("accept: %+v", r)
	}
	if r := p.Default(); r.Scope != "default" || !r.Closed() {
		t.Errorf("default: %+v", r)
	}
	if n := len(p.Rules()); n != 10 {
		t.Errorf("%d rules", n)
	}
}

// Debian's and Fedora's files of podman are understood; what is about other transports has no effect.
func TestForeignFiles(t *testing.T) {
	p, err := Parse([]byte("\n"+`{"default":[{"type":"insecureAcceptAnything"}],
		"transports":{"docker-daemon":{"":[{"type":"insecureAcceptAnything"}]},
		"atomic":{"x":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/none"}]},
		"oci":{"/dir":[{"type":"sigstoreSigned","keyPath":"/none"}]}}}`), func(string) ([]byte, error) { return nil, errors.New("a file was opened") })
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Notes) != 3 || !p.For(named(t, "x")).Open() {
		t.Errorf("%+v", p)
	}
}

func TestSigned(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.pub"), filepath.Join(dir, "two.pub")
	for _, f := range []string{one, two} {
		if err := os.WriteFile(f, publicKey(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root.json")
	if err := os.WriteFile(root, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "policy.json")
	text := fmt.Sprintf(`{"default":[{"type":"reject"}],"transports":{"docker":{
		"a.io":[{"type":"sigstoreSigned","keyPath":%q}],
		"b.io":[{"type":"sigstoreSigned","keyPaths":[%q,%q],"signedIdentity":{"type":"matchRepository"}},{"type":"sigstoreSigned","keyData":%q}],
		"c.io":[{"type":"sigstoreSigned","fulcio":{"trustedRootPath":%q,"oidcIssuer":"https://i","subjectRegExp":"a+"}}]
		}}}`, one, one, two, base64.StdEncoding.EncodeToString(publicKey(t)), root)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := p.For(named(t, "a.io/x")).Requirements, p.For(named(t, "b.io/x")).Requirements, p.For(named(t, "c.io/x")).Requirements
	if len(a) != 1 || len(a[0].Keys) != 1 || a[0].Keys[0].Name != one || len(a[0].Keys[0].ID) != 64 || a[0].Identity.Type != MatchRepoDigestExact {
		t.Errorf("a: %+v", a)
	}
	if len(b) != 2 || len(b[0].Keys) != 2 || b[0].Identity.Type != MatchRepository || !strings.HasSuffix(b[1].Keys[0].Name, "keyData") {
		t.Errorf("b: %+v", b)
	}
	if len(c) != 1 || c[0].Keyless == nil || c[0].Keyless.SubjectRE != "a+" || string(c[0].Keyless.Root) != "{}" {
		t.Errorf("c: %+v", c)
	}
}

// Mistakes are told with their place and what would help.
func TestMistakes(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(publicKey(t))
	private := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: []byte("x")})
	load := func(path string) ([]byte, error) {
		if path == "/private" {
			return private, nil
		}
		return nil, os.ErrNotExist
	}
	docker := func(scope, q string) string {
		return `{"default":[{"type":"reject"}],` + "\n" + `"transports":{"docker":{` + "\n\"" + scope + `":[` + q + `]}}}`
	}
	signed := func(more string) string { return docker("a.io", `{"type":"sigstoreSigned",`+more+`}`) }
	for file, want := range map[string]string{
		"":                       "line 1: this is not JSON: the file ends in the middle",
		"\n[]":                   "line 2: an object is needed, not a list",
		"{}":                     `the field "default" is missing`,
		`{"default":[]}`:         "line 1, default: a list of one or more requirements",
		`{"default":[{}]}`:       `line 1, default[0]: the field "type" is missing`,
		`{"default":["reject"]}`: "default[0]: a requirement is an object, not a text",
		"{\"default\":\n[{\"type\":\"Reject\"}]}":                                                          `line 2, default[0]: the type "Reject" is not known`,
		`{"default":[{"type":"reject"}],"defualt":[]}`:                                                     `the field "defualt" is not known here: there are default, transports`,
		"{\"default\":[{\"type\":\"reject\"}],\n\"default\":[]}":                                           `line 2: the field "default" is there twice`,
		`{"default":[{"type":"reject","keyPath":"/x"}]}`:                                                   `the field "keyPath" is not known here: there are type`,
		`{"default":[{"type":"reject"}],"transports":{"dokcer":{}}}`:                                       `transports: the field "dokcer" is not known`,
		`{"default":[{"type":"reject"}]} {}`:                                                               "something follows after the end",
		"{\"default\":[{\"type\":\"reject\"}\n,}":                                                          "line 2, default[1]: this is not JSON",
		strings.Repeat("[", 100):                                                                           "nested more than 16 deep",
		docker("busybox", `{"type":"reject"}`):                                                             `line 3, transports.docker: the scope "busybox" does not begin with a registry`,
		docker("*.", `{"type":"reject"}`):                                                                  "is no wildcard",
		docker("*.a.io/x", `{"type":"reject"}`):                                                            "is no wildcard",
		docker("a.io/x//y", `{"type":"reject"}`):                                                           "is neither a registry",
		docker("a.io/X", `{"type":"reject"}`):                                                              "is neither a registry",
		docker("a.io", `{"type":"signedBy","keyType":"GPGKeys"}`):                                          `GPG keys ("signedBy") are not supported`,
		signed(`"keyPath":"/none"`):                                                                        `line 3, transports.docker["a.io"][0].keyPath: file does not exist`,
		signed(`"keyPath":"none"`):                                                                         `"none" is no absolute path`,
		signed(`"keyPath":"/private"`):                                                                     "/private is a private key",
		signed(`"keyPath":""`):                                                                             "a text that is not empty is needed",
		signed(`"keyPaths":[]`):                                                                            "a list of one or more is needed",
		signed(`"keyData":"###"`):                                                                          "base64",
		signed(`"keyData":"eA=="`):                                                                         "has no public key in PEM",
		signed(`"keyData":"` + key + `","keyPath":"/x"`):                                                   "exactly one of",
		signed(`"signedIdentity":{"type":"matchExact"}`):                                                   "exactly one of",
		signed(`"keyData":"` + key + `","rekorPublicKeyPath":"/x"`):                                        "this is not supported: use keys",
		signed(`"keyData":"` + key + `","signedIdentity":{}`):                                              `the field "type" is missing: one of matchExact`,
		signed(`"keyData":"` + key + `","signedIdentity":{"type":"any"}`):                                  `the type "any" is not known`,
		signed(`"keyData":"` + key + `","signedIdentity":{"type":"exactReference"}`):                       `needs the field "dockerReference"`,
		signed(`"keyData":"` + key + `","signedIdentity":{"type":"exactReference","dockerReference":"a"}`): "neither a tag nor a digest",
		signed(`"keyData":"` + key + `","signedIdentity":{"type":"exactRepository","dockerRepository":"a:1"}`):         "has a tag or a digest",
		signed(`"keyData":"` + key + `","signedIdentity":{"type":"remapIdentity","prefix":"a.io","signedPrefix":"b"}`): `"b" is neither a registry`,
		signed(`"keyData":"` + key + `","signedIdentity":{"type":"matchExact","dockerReference":"a"}`):                 "is not known here",
		signed(`"fulcio":{}`):                                                                                 `one of "trustedRootPath" and "trustedRootData" is needed`,
		signed(`"fulcio":{"trustedRootData":"e30="}`):                                                         "without them anybody could sign",
		signed(`"fulcio":{"trustedRootData":"eA=="}`):                                                         "is no trusted root",
		signed(`"fulcio":{"trustedRootData":"e30=","oidcIssuer":"i","subjectRegExp":"("}`):                    "missing closing )",
		signed(`"fulcio":{"trustedRootData":"e30=","oidcIssuer":"i","subject":"a","subjectEmail":"b"}`):       "only one of",
		`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker-daemon":{"":[{"type":"no"}]}}}`: `the type "no" is not known`,
	} {
		_, err := Parse([]byte(file), load)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v\nwant %s", file, err, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	for _, c := range []struct {
		i             Identity
		image, signed string
		want          string // part of the error; empty fits
	}{
		{Identity{Type: MatchRepoDigestExact}, "a.io/x:1", "a.io/x:1", ""},
		{Identity{Type: MatchRepoDigestExact}, "a.io/x:1", "a.io/x:2", "it is for a.io/x:2, not for a.io/x:1"},
		{Identity{Type: MatchRepoDigestExact}, "a.io/x:1", "a.io/x", "it is for a.io/x, not"},
		{Identity{Type: MatchRepoDigestExact}, "a.io/x@" + someDigest, "a.io/x:2", ""},
		{Identity{Type: MatchRepoDigestExact}, "a.io/x:1@" + someDigest, "a.io/x:2", ""},
		{Identity{Type: MatchRepoDigestExact}, "a.io/y@" + someDigest, "a.io/x:2", "it is for the repository a.io/x, not for a.io/y"},
		{Identity{Type: MatchRepoDigestExact}, "a.io/x:1", "", "it names no image, only a digest"},
		{Identity{Type: MatchExact}, "a.io/x@" + someDigest, "a.io/x:2", "not for"},
		{Identity{Type: MatchExact}, "busybox:1", "docker.io/library/busybox:1", ""},
		{Identity{Type: MatchRepository}, "a.io/x:1", "a.io/x", ""},
		{Identity{Type: MatchRepository}, "a.io/x:1", "a.io/x:2", ""},
		{Identity{Type: MatchRepository}, "a.io/x:1", "a.io/xx", "repository a.io/xx, not for a.io/x"},
		{Identity{Type: MatchRepository}, "a.io/x:1", "A B", "no reference"},
		{Identity{Type: ExactReference, Name: "b.io/y:2"}, "a.io/x:1", "b.io/y:2", ""},
		{Identity{Type: ExactReference, Name: "b.io/y:2"}, "a.io/x:1", "a.io/x:1", "not for b.io/y:2"},
		{Identity{Type: ExactRepository, Name: "b.io/y"}, "a.io/x:1", "b.io/y:7", ""},
		{Identity{Type: ExactRepository, Name: "b.io/y"}, "a.io/x:1", "a.io/x:1", "not for b.io/y"},
		{Identity{Type: RemapIdentity, Prefix: "m.io/mirror", SignedPrefix: "a.io"}, "m.io/mirror/x:1", "a.io/x:1", ""},
		{Identity{Type: RemapIdentity, Prefix: "m.io/mirror", SignedPrefix: "a.io"}, "m.io/mirror/x@" + someDigest, "a.io/x:1", ""},
		{Identity{Type: RemapIdentity, Prefix: "m.io/mirror", SignedPrefix: "a.io"}, "m.io/mirror/x:1", "m.io/mirror/x:1", "not for a.io/x:1"},
		{Identity{Type: RemapIdentity, Prefix: "m.io/mirror", SignedPrefix: "a.io"}, "m.io/mirrored/x:1", "m.io/mirrored/x:1", ""},
		{Identity{Type: RemapIdentity, Prefix: "m.io/mirror", SignedPrefix: "a.io"}, "m.io/mirrored/x:1", "a.io/ed/x:1", "not for"},
		{Identity{Type: MatchDigest}, "a.io/x:1", "", ""},
		{Identity{Type: MatchDigest}, "a.io/x:1", "b.io/y:9", ""},
	} {
		err := c.i.Fits(named(t, c.image), c.signed)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %s signed as %q: %v, want %q", c.i, c.image, c.signed, err, c.want)
		}
	}
}

// Whatever is in a file, it is either refused, with a place, or has a default.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"default":[{"type":"reject"}],"transports":{"docker":{"a.io/b":[{"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"matchRepository"}}]}}}`))
	f.Add([]byte(`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker-daemon":{"":[{"type":"insecureAcceptAnything"}]}}}`))
	key := publicKey(f)
	image := named(f, "a.io/b:1")
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b, func(string) ([]byte, error) { return key, nil })
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Errorf("%q: %v", b, err)
			}
			return
		}
		for _, r := range append(p.Rules(), p.For(image)) {
			if len(r.Requirements) == 0 || r.Open() && r.Closed() {
				t.Errorf("%q has the rule %+v", b, r)
			}
			for _, q := range r.Requirements {
				if q.Kind == Signed && len(q.Keys) == 0 && q.Keyless == nil {
					t.Errorf("%q demands a signature by nobody: %+v", b, r)
				}
				if q.Kind == Signed && q.Identity.Fits(image, "z.io/z:2") == nil && q.Identity.Type == MatchRepoDigestExact {
					t.Errorf("%q lets any name pass", b)
				}
			}
		}
	})
}
