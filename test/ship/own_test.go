package ship

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/authority"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// multi writes an archive with an index of two platforms.
func multi(t *testing.T) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "multi.tar")
	amd, arm := busybox(t).Named("m:1"), busybox(t).Named("m:1")
	amd.Platform.OS, amd.Platform.Architecture = "linux", "amd64"
	arm.Platform.OS, arm.Platform.Architecture = "linux", "arm64"
	arm = arm.Add(imagemaker.Layer{imagemaker.File("/arm", "arm")})
	write(t, archive, imagemaker.Archive{Images: []imagemaker.Image{amd, arm}, OCI: true, Index: true})
	return archive
}

// manifestOf is a manifest's digest and body, as the registry has it.
func manifestOf(t *testing.T, image string) string {
	t.Helper()
	return strings.TrimSpace(run(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+image))
}

// Every client's images come back as they went: ours, the official one, skopeo with all platforms, podman.
func TestOwnRegistryRoundTrips(t *testing.T) {
	r := testkit.StartOwnRegistry(t, false, nil)
	t.Run("engine", func(t *testing.T) {
		e := engine(t)
		e.Must(t, "run", "--name", "made", "bb", "sh", "-c", "echo marked > /mark")
		name := r.Addr + "/dir/app:1"
		e.Must(t, "commit", "made", name)
		e.Must(t, "rm", "made")
		e.Must(t, "push", name)
		e.Must(t, "tag", name, r.Addr+"/other/app:2")
		if out := e.Must(t, "push", r.Addr+"/other/app:2"); !strings.Contains(out, "Mounted from dir/app") {
			t.Errorf("nothing was mounted:\n%s", out)
		}
		e.Must(t, "rmi", name, r.Addr+"/other/app:2")
		if out, errs, code := e.Gantry("pull", name); code != 0 {
			t.Fatalf("%s%s", out, errs)
		}
		if got := e.Must(t, "run", "--rm", name, "cat", "/mark"); got != "marked" {
			t.Errorf("it came back with %q", got)
		}
		fails(t, e, "not found: manifest unknown", "pull", r.Addr+"/dir/app:none")
		if out := e.Must(t, "search", r.Addr+"/app"); !strings.Contains(out, r.Addr+"/other/app") {
			t.Errorf("search:\n%s", out)
		}
	})
	t.Run("skopeo", func(t *testing.T) {
		archive, name, back := multi(t), r.Addr+"/multi/all:1", filepath.Join(t.TempDir(), "back")
		for _, format := range []string{"oci", "v2s2"} {
			run(t, "skopeo", "copy", "--all", "--format", format, "--dest-tls-verify=false", "oci-archive:"+archive, "docker://"+name)
			run(t, "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://"+name, "dir:"+back+format)
			got, err := os.ReadFile(filepath.Join(back+format, "manifest.json"))
			if err != nil || strings.TrimSpace(string(got)) != manifestOf(t, name) {
				t.Errorf("%s: another index came back: %s %v", format, got, err)
			}
		}
		run(t, "skopeo", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+name, "docker://"+r.Addr+"/multi/copy:1")
		var list struct{ Tags []string }
		if err := json.Unmarshal([]byte(run(t, "skopeo", "list-tags", "--tls-verify=false", "docker://"+r.Addr+"/multi/copy")), &list); err != nil || len(list.Tags) != 1 {
			t.Errorf("%v %v", list, err)
		}
		run(t, "skopeo", "delete", "--tls-verify=false", "docker://"+r.Addr+"/multi/copy:1")
		if out, err := exec.Command("skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+r.Addr+"/multi/copy:1").CombinedOutput(); err == nil {
			t.Errorf("it is still there: %s", out)
		}
	})
	t.Run("podman", func(t *testing.T) {
		root, err := os.MkdirTemp("", "pod") // podman wants a short path
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(root) })
		podman := func(args ...string) string {
			return run(t, "podman", append([]string{"--root", filepath.Join(root, "root"), "--runroot", filepath.Join(root, "run"), "--storage-driver", "vfs"}, args...)...)
		}
		archive := filepath.Join(root, "bb.tar")
		if err := imagemaker.WriteBusybox(archive, "bb:latest"); err != nil {
			t.Fatal(err)
		}
		podman("load", "-q", "-i", archive)
		name := r.Addr + "/from/podman:1"
		podman("push", "-q", "--tls-verify=false", "docker.io/library/bb:latest", name)
		podman("rmi", "docker.io/library/bb:latest")
		podman("pull", "-q", "--tls-verify=false", name)
		if out := podman("images", "--format", "{{.Repository}}:{{.Tag}}"); strings.TrimSpace(out) != name {
			t.Errorf("podman has %s", out)
		}
	})
}

// tokens of its own, over TLS: engine and skopeo log in, push and pull; who has no right is refused.
func TestOwnRegistryWithTokens(t *testing.T) {
	ca := authority.New(t)
	ca.Issue(t, "registry")
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	for _, u := range []string{"ann", "bob"} {
		add := exec.Command(filepath.Join(testkit.Bin(t), "gantry"), "registry", "user", "add", "--htpasswd", users, "--password-stdin", u)
		add.Stdin = strings.NewReader("secret\n")
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("%s %v", out, err)
		}
	}
	config := filepath.Join(dir, "registry.yaml")
	text := "rights:\n- {repositories: ['**'], users: [ann], allow: [pull, push, delete]}\n- {repositories: ['team/**'], users: [bob], allow: [pull]}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}}}
	r := testkit.StartOwnRegistry(t, true, client, "--config", config, "--tokens", "--htpasswd", users, "--tls-cert", ca.Path("registry.pem"), "--tls-key", ca.Path("registry-key.pem"))
	e := engine(t)
	login := func(user, password string) (config string) {
		config = t.TempDir()
		out, errs, code := e.Docker("--config", config, "login", "-u", user, "-p", password, r.Addr)
		if (code == 0) != (password == "secret") {
			t.Errorf("login of %s with %s: %d\n%s%s", user, password, code, out, errs)
		}
		return config
	}
	login("ann", "wrong")
	ann, bob := login("ann", "secret"), login("bob", "secret")
	for _, name := range []string{r.Addr + "/team/app:1", r.Addr + "/own/app:1"} {
		e.Must(t, "tag", "bb", name)
		e.Must(t, "--config", ann, "push", "-q", name)
		e.Must(t, "rmi", name)
	}
	e.Must(t, "--config", bob, "pull", "-q", r.Addr+"/team/app:1")
	if out, errs, code := e.Docker("--config", bob, "pull", r.Addr+"/own/app:1"); code != 1 || !strings.Contains(errs, "denied") {
		t.Errorf("bob pulled what he may not: %d %s%s", code, out, errs)
	}
	if out, errs, code := e.Docker("--config", bob, "push", r.Addr+"/team/app:1"); code != 1 {
		t.Errorf("bob pushed: %d %s%s", code, out, errs)
	}
	fails(t, e, "denied", "pull", r.Addr+"/team/app:1")
	run(t, "skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds=bob:secret", "--dest-creds=ann:secret",
		"docker://"+r.Addr+"/team/app:1", "docker://"+r.Addr+"/copy/app:2")
	list := exec.Command(filepath.Join(testkit.Bin(t), "gantry"), "--config", ann, "registry", "tag", "ls", "--insecure", r.Addr+"/copy/app")
	var errs bytes.Buffer
	list.Stderr = &errs
	if out, err := list.Output(); err != nil || !strings.Contains(string(out), "sha256:") || !strings.HasPrefix(strings.Split(string(out), "\n")[1], "2 ") {
		t.Errorf("%s%s %v", out, &errs, err)
	}
}

// As a mirror of docker-registry: an engine's pulls go through it, and go on working when the other one is gone.
func TestOwnRegistryAsMirror(t *testing.T) {
	other := testkit.StartForeignRegistry(t, testkit.RegistryOptions{})
	run(t, "skopeo", "copy", "--all", "--dest-tls-verify=false", "oci-archive:"+multi(t), "docker://"+other.Addr+"/team/app:1")
	r := testkit.StartOwnRegistry(t, false, nil, "--cache", "other="+other.Addr, "--cache-default", "other", "--cache-fresh", "1ms")
	e := engine(t, "--registry-mirror", other.Addr+"=http://"+r.Addr)
	name := other.Addr + "/team/app:1"
	e.Must(t, "pull", "-q", name)
	if out := e.Must(t, "run", "--rm", name, "echo", "runs"); out != "runs" {
		t.Errorf("%s", out)
	}
	if got, want := manifestOf(t, r.Addr+"/other/team/app:1"), manifestOf(t, name); got != want {
		t.Errorf("the cache has another manifest: %s, want %s", got, want)
	}
	e.Must(t, "rmi", name)
	other.Stop()
	e.Must(t, "pull", "-q", name)
	e.Must(t, "run", "--rm", name, "true")
	if out, err := exec.Command("skopeo", "copy", "--dest-tls-verify=false", "oci-archive:"+multi(t), "docker://"+r.Addr+"/other/team/app:2").CombinedOutput(); err == nil || !strings.Contains(string(out), "push there") {
		t.Errorf("a copy was pushed to: %s %v", out, err)
	}
}

// An engine's images, served to its neighbours: they come under the engine's own digests, read-only, and follow its tags.
func TestFromEngine(t *testing.T) {
	e := engine(t)
	e.Must(t, "run", "--name", "made", "bb", "sh", "-c", "echo one > /mark")
	e.Must(t, "commit", "made", "registry.example.com:5000/team/app:1")
	e.Must(t, "rm", "made")
	r := testkit.StartOwnRegistry(t, false, nil, "--from-engine=unix://"+e.Socket)
	catalog := run(t, "curl", "-s", r.URL()+"/v2/_catalog")
	if !strings.Contains(catalog, `"library/bb"`) || !strings.Contains(catalog, `"registry.example.com_5000/team/app"`) {
		t.Errorf("%s", catalog)
	}
	neighbour := engine(t)
	neighbour.Must(t, "rmi", "bb")
	name := r.Addr + "/registry.example.com_5000/team/app:1"
	neighbour.Must(t, "pull", "-q", name)
	if got := neighbour.Must(t, "run", "--rm", name, "cat", "/mark"); got != "one" {
		t.Errorf("%s", got)
	}
	id := func(e *testkit.Engine, name string) string {
		return e.Must(t, "image", "inspect", "-f", "{{.Id}}", name)
	}
	if got, want := id(neighbour, name), id(e, "registry.example.com:5000/team/app:1"); got != want {
		t.Errorf("it came as %s, is %s there", got, want)
	}
	fails(t, neighbour, "not found", "pull", r.Addr+"/library/none:1")
	neighbour.Must(t, "tag", name, r.Addr+"/library/pushed:1")
	fails(t, neighbour, "read-only", "push", r.Addr+"/library/pushed:1")
	// The tag moves, and goes.
	e.Must(t, "run", "--name", "made", "bb", "sh", "-c", "echo two > /mark")
	e.Must(t, "commit", "made", "registry.example.com:5000/team/app:1")
	e.Must(t, "rm", "made")
	neighbour.Must(t, "pull", "-q", name)
	if got := neighbour.Must(t, "run", "--rm", name, "cat", "/mark"); got != "two" {
		t.Errorf("%s", got)
	}
	e.Must(t, "rmi", "registry.example.com:5000/team/app:1")
	fails(t, neighbour, "not found", "pull", name)
}
