package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// What a name demands counts on every way to it: tag, load, commit, import, and create by name or by ID.
func TestWaysToAName(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	free, prod := l.reg.Host+"/free/app:1", l.reg.Host+"/prod/app:1"
	archive := filepath.Join(l.dir, "app.tar")
	l.ci.Must(t, "tag", "bb", free)
	l.ci.Must(t, "tag", "bb", prod)
	l.ci.Must(t, "save", "-o", archive, prod)
	l.enforce(map[string]string{"/prod": signed(l.key), "/closed": `{"type": "reject"}`})

	l.fails(l.prod, []string{prod, "is refused by the image policy", "there is no signature"}, "load", "-i", archive)
	l.nothing("prod/app")
	l.ci.Must(t, "save", "-o", archive, free)
	l.prod.Must(t, "load", "-q", "-i", archive)
	l.prod.Must(t, "run", "--rm", free, "true")
	l.fails(l.prod, []string{prod, "is refused by the image policy"}, "tag", free, prod)
	l.fails(l.prod, []string{"allows no image", "Use an image of a repository that the policy allows"}, "tag", free, l.reg.Host+"/closed/app:1")
	l.prod.Must(t, "run", "--name", "copied", "-d", free, "sleep", "100")
	l.fails(l.prod, []string{prod + " is refused", "a new image has no signature", "Give it another name"}, "commit", "copied", prod)
	root := filepath.Join(l.dir, "root.tar")
	if err := os.WriteFile(root, tarFile(t, "x"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.fails(l.prod, []string{"a new image has no signature"}, "import", root, prod)
	l.prod.Must(t, "commit", "copied", "free:2")
	l.prod.Must(t, "rm", "-f", "copied")

	// Signed here for the name it is to have, it may have that name.
	id := l.must(l.prod, "image", "inspect", "-f", "{{.Id}}", free)
	l.must(l.prod, "image", "sign", "--local", "--key", l.other.private, "--as", prod, free)
	l.fails(l.prod, []string{"it is not by the key"}, "tag", free, prod)
	l.must(l.prod, "image", "sign", "--local", "--key", l.key.private, "--as", l.reg.Host+"/prod/app:2", id)
	l.fails(l.prod, []string{"it is for " + l.reg.Host + "/prod/app:2, not for " + prod}, "tag", free, prod)
	l.must(l.prod, "image", "sign", "--local", "--key", l.key.private, "--as", prod, id)
	l.must(l.prod, "tag", free, prod)
	l.must(l.prod, "run", "--rm", prod, "true")
	l.must(l.prod, "run", "--rm", id, "true")
	if out := l.must(l.prod, "image", "verify", "--local", "--policy", l.policy, prod); !strings.Contains(out, "is allowed") {
		t.Errorf("verify says %s", out)
	}
}

// An image that was here before the policy is judged when it is used.
func TestEarlierImages(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	signedName, _ := l.push("prod/signed:1")
	l.sign(l.key, signedName)
	bad, _ := l.push("prod/bad:1")
	for _, n := range []string{signedName, bad} {
		l.prod.Must(t, "pull", "-q", n)
		l.prod.Must(t, "run", "--rm", n, "true")
	}
	l.prod.Must(t, "run", "-d", "--name", "old", bad, "sleep", "100")
	id := l.prod.Must(t, "image", "inspect", "-f", "{{.Id}}", bad)
	l.enforce(map[string]string{"/prod": signed(l.key)})
	l.prod.Must(t, "run", "--rm", signedName, "true") // the registry has the signature
	for _, ref := range []string{bad, id, id[7:19]} {
		l.fails(l.prod, []string{bad + " (" + id + ") is refused"}, "run", "--rm", ref, "true")
	}
	if got := l.prod.Must(t, "inspect", "-f", "{{.State.Running}}", "old"); got != "true" {
		t.Errorf("a container that ran before: %s", got)
	}
	l.prod.Must(t, "restart", "-t", "0", "old")
	l.prod.Must(t, "rm", "-f", "old")
	// Without a name, the default counts.
	l.prod.Must(t, "tag", bad, "plain:1")
	l.prod.Must(t, "run", "--rm", id, "true")
	l.prod.Must(t, "rmi", bad, "plain:1")
	l.write(`"default": [{"type": "reject"}]`)
	l.reload("reloaded the configuration")
	l.fails(l.prod, []string{"the rule default allows no image"}, "run", "--rm", signedName, "true")
}

// In a closed network the proof travels with the image: through save and load, through push and pull, and over a restart.
func TestProofTravels(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	own, foreign := testkit.StartOwnRegistry(t, false, nil), testkit.StartForeignRegistry(t, testkit.RegistryOptions{})
	for _, host := range []string{own.Addr, foreign.Addr} {
		t.Run(strings.SplitN(host, ":", 2)[1], func(t *testing.T) {
			l.t = t
			name, digest := l.pushTo(host, "prod/app:1")
			l.sign(l.key, name)
			l.write(`"default": [{"type": "reject"}], "transports": {"docker": {"` + host + `": [` + signed(l.key) + `]}}`)
			l.reload("reloaded the configuration")
			l.must(l.prod, "pull", "-q", name)
			archive := filepath.Join(l.dir, "app.tar")
			l.prod.Must(t, "save", "-o", archive, name)
			closed := testkit.Start(t, testkit.Options{Args: []string{"--image-policy", l.policy}, OwnNamespaces: true})
			closed.Must(t, "load", "-q", "-i", archive)
			if got := closed.Must(t, "run", "--rm", "--network", "none", name, "cat", "/name"); got != name {
				t.Errorf("the image says %s", got)
			}
			closed.Kill()
			if err := closed.Run(); err != nil {
				t.Fatal(err)
			}
			closed.Must(t, "run", "--rm", "--network", "none", name, "true")
			l.fails(closed, []string{"allows no image"}, "tag", name, "x:1")

			// On to another registry: the image and its signature, under the digest that was signed.
			other := l.reg.Host + "/prod/app:1"
			l.ci.Must(t, "rmi", "-f", name)
			l.ci.Must(t, "pull", "-q", name)
			l.must(l.ci, "image", "sign", "--local", "--key", l.key.private, "--as", other, name)
			l.ci.Must(t, "tag", name, other)
			if out := l.ci.Must(t, "push", other); !strings.Contains(out, "digest: "+digest) || !strings.Contains(out, "Signature ") {
				t.Errorf("push says %s", out)
			}
			l.must(l.ci, "image", "verify", "--key", l.key.public, other)
			l.ci.Must(t, "rmi", "-f", name, other)
		})
	}
}

// Keys are changed by changing the policy; a policy with mistakes changes nothing.
func TestKeysAndReload(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	old, _ := l.made("prod/old:1")
	fresh, _ := l.made("prod/new:1")
	l.sign(l.other, old)
	l.sign(l.key, fresh)
	both := `{"type": "sigstoreSigned", "keyPaths": ["` + l.other.public + `", "` + l.key.public + `"]}`
	l.enforce(map[string]string{"/prod": signed(l.other)})
	l.must(l.prod, "pull", "-q", old)
	l.must(l.prod, "create", old, "x")
	l.fails(l.prod, []string{"it is not by the key"}, "pull", fresh)
	l.enforce(map[string]string{"/prod": both})
	l.must(l.prod, "pull", "-q", fresh)
	l.must(l.prod, "create", old, "x")
	l.enforce(map[string]string{"/prod": signed(l.key)})
	l.must(l.prod, "create", fresh, "x")
	l.fails(l.prod, []string{"it is not by the key"}, "create", old, "x")

	l.write(`"default": [{"type": "insecureAcceptAnything"}], "transport": {}`)
	l.reload("the configuration was not reloaded")
	l.fails(l.prod, []string{"it is not by the key"}, "create", old, "x")
	if log := l.prod.LogTail(2000); !strings.Contains(log, `the field \"transport\" is not known here`) {
		t.Errorf("the log says\n%s", log)
	}
	l.fails(l.prod, []string{`line 1: the field "transport" is not known here: there are default, transports`}, "image", "policy", "check", l.policy)
}
