package trust

import (
	"encoding/json"
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
	l.key, l.other = l.keygen("right"), l.keygen("wrong")
	l.write(`"default": [{"type": "insecureAcceptAnything"}]`)
	l.prod = testkit.Start(t, testkit.Options{Args: []string{"--image-policy", l.policy}})
	return l
}

// keygen makes a pair of keys with the command line.
func (l *lab) keygen(name string) pair {
	l.t.Helper()
	l.t.Setenv("GANTRY_KEY_PASSWORD", "secret")
	prefix := filepath.Join(l.dir, name)
	l.must(l.ci, "image", "keygen", prefix)
	return pair{prefix + ".key", prefix + ".pub"}
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
