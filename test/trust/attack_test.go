package trust

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// attach puts a bundle beside an image of the registry, as whoever may push there can.
func (l *lab) attach(repo string, subject digest.Digest, bundle []byte) {
	l.t.Helper()
	config := l.reg.AddBlob(repo, []byte("{}"))
	config.MediaType = ocispec.MediaTypeEmptyJSON
	layer := l.reg.AddBlob(repo, bundle)
	layer.MediaType = bundleType
	kind, body, ok := l.reg.Manifest(repo, subject.String())
	if !ok {
		l.t.Fatalf("%s has no %s", repo, subject)
	}
	m, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: bundleType, Config: config, Layers: []ocispec.Descriptor{layer},
		Subject: &ocispec.Descriptor{MediaType: kind, Digest: subject, Size: int64(len(body))},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.reg.AddManifest(repo, "", ocispec.MediaTypeImageManifest, m)
}

// bundle is what the registry has of a signature: the blob of its manifest.
func (l *lab) bundle(repo, manifest string) []byte {
	l.t.Helper()
	_, body, ok := l.reg.Manifest(repo, manifest)
	var m ocispec.Manifest
	if !ok || json.Unmarshal(body, &m) != nil || len(m.Layers) != 1 {
		l.t.Fatalf("%s is no signature: %s", manifest, body)
	}
	b, ok := l.reg.Blob(repo, m.Layers[0].Digest)
	if !ok {
		l.t.Fatalf("%s is not there", m.Layers[0].Digest)
	}
	return b
}

// copyImage gives an image another repository, with all that belongs to it.
func (l *lab) copyImage(from, to, tag string, d digest.Digest) {
	l.t.Helper()
	kind, body, ok := l.reg.Manifest(from, d.String())
	var m ocispec.Manifest
	if !ok || json.Unmarshal(body, &m) != nil {
		l.t.Fatalf("%s has no %s", from, d)
	}
	for _, part := range append(m.Layers, m.Config) {
		b, ok := l.reg.Blob(from, part.Digest)
		if !ok {
			l.t.Fatalf("%s has no %s", from, part.Digest)
		}
		l.reg.AddBlob(to, b)
	}
	l.reg.AddManifest(to, tag, kind, body)
}

// Signatures that are good, but of something else, and what only looks like one.
func TestAttacks(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	host := l.reg.Host
	good, goodDigest := l.push("prod/good:1")
	bad, badDigest := l.made("prod/bad:1")
	sig := l.bundle("prod/good", l.sign(l.key, good))
	l.enforce(map[string]string{"/prod": signed(l.key), "/two": signed(l.key) + "," + signed(l.other), "/repo": signed(l.key, `, "signedIdentity": {"type": "matchRepository"}`)})

	t.Run("signature of another image", func(*testing.T) {
		l.attach("prod/bad", digest.Digest(badDigest), sig)
		l.fails(l.prod, []string{"is refused by the image policy", "it is of another image: " + goodDigest}, "pull", bad)
	})
	t.Run("by another key", func(*testing.T) {
		l.sign(l.other, bad)
		l.fails(l.prod, []string{"it is of another image", "it is not by the key"}, "pull", bad)
	})
	t.Run("garbage", func(*testing.T) {
		name, d := l.made("prod/garbage:1")
		for _, b := range [][]byte{[]byte("{}"), []byte("\x00"), []byte(`{"mediaType":"` + bundleType + `"}`), []byte(strings.Repeat("[", 100000)), sig[:len(sig)/2]} {
			l.attach("prod/garbage", digest.Digest(d), b)
		}
		l.fails(l.prod, []string{"it is no sigstore bundle"}, "pull", name)
	})
	t.Run("under another name", func(*testing.T) {
		l.copyImage("prod/good", "prod/fake", "1", digest.Digest(goodDigest))
		l.attach("prod/fake", digest.Digest(goodDigest), sig)
		l.fails(l.prod, []string{"it is for " + good + ", not for " + host + "/prod/fake:1"}, "pull", host+"/prod/fake:1")
		l.fails(l.prod, []string{"it is for the repository " + host + "/prod/good, not for " + host + "/prod/fake"}, "pull", host+"/prod/fake@"+goodDigest)
		l.retag("prod/good", goodDigest, "newest")
		l.fails(l.prod, []string{"it is for " + good + ", not for " + host + "/prod/good:newest"}, "pull", host+"/prod/good:newest")
	})
	t.Run("tag moved on", func(*testing.T) {
		l.must(l.prod, "pull", "-q", good)
		moved, _ := l.made("prod/good:1")
		l.fails(l.prod, []string{"Found: there is no signature"}, "pull", moved)
		if got := l.must(l.prod, "image", "inspect", "-f", "{{.Id}}", good); got != goodDigest {
			t.Errorf("the name leads to %s, not to what was signed, %s", got, goodDigest)
		}
		l.must(l.prod, "run", "--rm", good, "true")
	})
	t.Run("one of two", func(*testing.T) {
		name, _ := l.made("two/app:1")
		l.sign(l.key, name)
		l.fails(l.prod, []string{"and a signature by the key " + l.other.public, "it is not by the key"}, "pull", name)
		l.sign(l.other, name)
		l.must(l.prod, "pull", "-q", name)
	})
	t.Run("repository is enough", func(*testing.T) {
		name, d := l.made("repo/app:1")
		l.sign(l.key, name)
		l.retag("repo/app", d, "other")
		l.must(l.prod, "pull", "-q", host+"/repo/app:other")
	})
	t.Run("stripped", func(*testing.T) {
		name, _ := l.made("prod/stripped:1")
		l.sign(l.key, name)
		l.reg.Break(registry.Fault{Path: "/referrers/", Status: 200, Body: `{"schemaVersion":2,"manifests":[]}`, Header: map[string]string{"Content-Type": ocispec.MediaTypeImageIndex}})
		l.fails(l.prod, []string{"Found: there is no signature"}, "pull", name)
		l.reg.Mend()
		l.must(l.prod, "pull", "-q", name)
	})
	t.Run("flood", func(*testing.T) {
		name, d := l.made("prod/flood:1")
		for i := range 100 {
			l.attach("prod/flood", digest.Digest(d), fmt.Appendf(nil, `{"i":%d}`, i))
		}
		l.fails(l.prod, []string{"and ", " more"}, "pull", name)
	})
	t.Run("endless list", func(*testing.T) {
		name, _ := l.made("prod/endless:1")
		l.reg.Break(registry.Fault{Path: "/prod/endless/referrers/", More: 8 << 30})
		l.fails(l.prod, []string{"the registry cannot be asked for signatures", "more than 4194304 bytes"}, "pull", name)
		l.reg.Mend()
	})
	t.Run("large signature", func(*testing.T) {
		name, d := l.made("prod/large:1")
		l.attach("prod/large", digest.Digest(d), []byte(strings.Repeat("x", 3<<20)))
		l.fails(l.prod, []string{"more than 1048576"}, "pull", name)
	})
	t.Run("lying registry", func(*testing.T) {
		name, _ := l.made("prod/lies:1")
		m := l.sign(l.key, name)
		l.reg.Break(registry.Fault{Method: "GET", Path: "/prod/lies/manifests/" + m, Wrong: true})
		l.fails(l.prod, []string{"the registry sent something else"}, "pull", name)
		l.reg.Mend()
	})
	t.Run("refuses to say", func(*testing.T) {
		name, _ := l.made("prod/mute:1")
		l.reg.Break(registry.Fault{Path: "/prod/mute/referrers/", Status: http.StatusForbidden})
		l.reg.Break(registry.Fault{Path: "/prod/mute/manifests/sha256-", Status: http.StatusForbidden})
		l.fails(l.prod, []string{"the registry cannot be asked for signatures"}, "pull", name)
		l.reg.Mend()
	})
	for _, repo := range []string{"bad", "garbage", "fake", "flood", "endless", "large", "lies", "mute"} {
		l.nothing("prod/" + repo)
	}
	l.must(l.prod, "version")
}

// retag gives an image of the registry a further tag.
func (l *lab) retag(repo, d, tag string) {
	l.t.Helper()
	mediaType, body, ok := l.reg.Manifest(repo, d)
	if !ok {
		l.t.Fatalf("%s has no %s", repo, d)
	}
	l.reg.AddManifest(repo, tag, mediaType, body)
}

// Of an image of several platforms the index is what has to be signed: a signature of one platform's manifest says nothing of
// the others, nor of the name.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	layer := tarFile(t, "multi")
	var list []ocispec.Descriptor
	for _, arch := range []string{"amd64", "arm64"} {
		list = append(list, l.reg.AddImage("prod/multi", "", registry.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, Layers: [][]byte{layer}}))
	}
	index := l.reg.AddIndex("prod/multi", "1", list...)
	name := l.reg.Host + "/prod/multi:1"
	l.sign(l.key, l.reg.Host+"/prod/multi@"+list[0].Digest.String(), "--as", name)
	l.enforce(map[string]string{"/prod": signed(l.key)})
	l.fails(l.prod, []string{name + " (" + index.Digest.String() + ")", "Found: there is no signature"}, "pull", name)
	l.must(l.prod, "pull", "-q", l.reg.Host+"/prod/multi@"+list[0].Digest.String())
	l.sign(l.key, name)
	l.must(l.prod, "pull", "-q", name)
	l.must(l.prod, "create", "--name", "made", name, "true")
	l.must(l.prod, "rm", "made")
}
