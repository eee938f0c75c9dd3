package trust

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// lab is an engine that makes images and signs them, and one that has a policy.
type lab struct {
	t          *testing.T
	ci, prod   *testkit.Engine
	policy     string // file
	dir        string
	key, other pair
	reg        *registry.Registry // between them; some tests take another one
}

// pair is a key's two files.
type pair struct{ private, public string }

func newLab(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	l := &lab{t: t, dir: dir, policy: filepath.Join(dir, "policy.json"), reg: registry.New(t)}
	l.ci = testkit.Start(t, testkit.Options{})
	archive := filepath.Join(dir, "bb.tar")
	if err := imagemaker.WriteBusybox(archive, "bb:latest"); err != nil {
		t.Fatal(err)
	}
	l.ci.Must(t, "load", "-q", "-i", archive)
	l.key, l.other = newPair(t, dir, "right"), newPair(t, dir, "wrong")
	l.write(`"default": [{"type": "insecureAcceptAnything"}]`)
	l.prod = testkit.Start(t, testkit.Options{Args: []string{"--image-policy", l.policy}})
	return l
}

// newPair makes a pair of keys, the private one plain: to decrypt one takes a moment on purpose.
func newPair(t *testing.T, dir, name string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	p := pair{filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")}
	for file, block := range map[string]*pem.Block{p.private: {Type: "PRIVATE KEY", Bytes: private}, p.public: {Type: "PUBLIC KEY", Bytes: public}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// must runs our command line.
func (l *lab) must(e *testkit.Engine, args ...string) string {
	l.t.Helper()
	out, errs, code := e.Gantry(args...)
	if code != 0 {
		l.t.Fatalf("gantry %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return strings.TrimSpace(out)
}

// fails runs our command line and wants it to fail with all of some texts.
func (l *lab) fails(e *testkit.Engine, texts []string, args ...string) {
	l.t.Helper()
	out, errs, code := e.Gantry(args...)
	for _, text := range texts {
		if code == 0 || !strings.Contains(out+errs, text) {
			l.t.Errorf("gantry %s: exit %d, want a failure with %q in\n%s%s", strings.Join(args, " "), code, text, out, errs)
			return
		}
	}
}

// write writes the policy file.
func (l *lab) write(text string) {
	l.t.Helper()
	if err := os.WriteFile(l.policy, []byte("{"+text+"}\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// enforce puts a policy in force: scopes of the registry, with the requirements as JSON.
func (l *lab) enforce(scopes map[string]string) {
	l.t.Helper()
	docker := map[string]json.RawMessage{}
	for s, q := range scopes {
		docker[l.reg.Host+s] = json.RawMessage("[" + q + "]")
	}
	b, err := json.Marshal(docker)
	if err != nil {
		l.t.Fatal(err)
	}
	l.write(`"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": ` + string(b) + `}`)
	l.reload("reloaded the configuration")
}

// reload has the engine with the policy read it again, and waits until it says so.
func (l *lab) reload(text string) {
	l.t.Helper()
	before := strings.Count(l.prod.LogTail(1<<20), text)
	if err := syscall.Kill(l.prod.PID(), syscall.SIGHUP); err != nil {
		l.t.Fatal(err)
	}
	for range 500 {
		if strings.Count(l.prod.LogTail(1<<20), text) > before {
			// The line comes before the services are told; a request waits for nothing, so the event does.
			time.Sleep(50 * time.Millisecond)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.t.Fatalf("the engine does not say %q:\n%s", text, l.prod.LogTail(2000))
}

// signed is the requirement of a signature by a key.
func signed(p pair, more ...string) string {
	return fmt.Sprintf(`{"type": "sigstoreSigned", "keyPath": %q%s}`, p.public, strings.Join(more, ""))
}

// push pushes an image of its own from the engine that makes them, and gives its name and its digest at the registry.
func (l *lab) push(repo string) (name, digest string) {
	l.t.Helper()
	return l.pushTo(l.reg.Host, repo)
}

func (l *lab) pushTo(host, repo string) (name, digest string) {
	l.t.Helper()
	name = host + "/" + repo
	l.ci.Must(l.t, "run", "--name", "made", "bb", "sh", "-c", "echo "+name+" > /name")
	l.ci.Must(l.t, "commit", "made", name)
	l.ci.Must(l.t, "rm", "made")
	out := l.ci.Must(l.t, "push", name)
	_, rest, ok := strings.Cut(out, "digest: ")
	if !ok {
		l.t.Fatalf("push says %s", out)
	}
	digest, _, _ = strings.Cut(rest, " ")
	return name, digest
}

// made puts an image of its own into the registry, which nobody will run.
func (l *lab) made(ref string) (name, digest string) {
	l.t.Helper()
	repo, tag, _ := strings.Cut(ref, ":")
	d := l.reg.AddImage(repo, tag, registry.Image{Layers: [][]byte{tarFile(l.t, ref)}})
	return l.reg.Host + "/" + ref, d.Digest.String()
}

// sign signs what the registry has under a name.
func (l *lab) sign(p pair, args ...string) string {
	l.t.Helper()
	return l.must(l.ci, append([]string{"image", "sign", "-q", "--key", p.private}, args...)...)
}

// nothing wants an engine to have no image of a repository.
func (l *lab) nothing(repo string) {
	l.t.Helper()
	if out := l.prod.Must(l.t, "images", "-aq", l.reg.Host+"/"+repo); out != "" {
		l.t.Errorf("%s is here: %s", repo, out)
	}
}

// tarFile is a layer with one file.
func tarFile(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
