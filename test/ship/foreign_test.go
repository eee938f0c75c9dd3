package ship

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// engine starts gantryd with the image bb loaded.
func engine(t *testing.T, args ...string) *testkit.Engine {
	t.Helper()
	e := testkit.Start(t, testkit.Options{Args: args})
	archive := filepath.Join(e.Dir, "bb.tar")
	if err := imagemaker.WriteBusybox(archive, "bb:latest"); err != nil {
		t.Fatal(err)
	}
	e.Must(t, "load", "-q", "-i", archive)
	return e
}

func busybox(t *testing.T) imagemaker.Image {
	t.Helper()
	i, err := imagemaker.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// write makes an archive.
func write(t *testing.T, path string, a imagemaker.Archive) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := imagemaker.Write(f, a); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// fails runs the official client and wants an exit code of 1 and a text.
func fails(t *testing.T, e *testkit.Engine, text string, args ...string) {
	t.Helper()
	out, errs, code := e.Docker(args...)
	if code != 1 || !strings.Contains(out+errs, text) {
		t.Errorf("docker %s: exit %d, want 1 and %q in\n%s%s", strings.Join(args, " "), code, text, out, errs)
	}
}

// run runs a foreign program.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A changed container goes to docker-registry and comes back, under the digest that the registry knows.
func TestThereAndBack(t *testing.T) {
	e, r := engine(t), testkit.StartForeignRegistry(t, testkit.RegistryOptions{})
	e.Must(t, "run", "--name", "made", "bb", "sh", "-c", "echo marked > /mark; rm /etc/group")
	name := r.Addr + "/dir/app:1"
	e.Must(t, "commit", "made", name)
	out := e.Must(t, "push", name)
	for _, want := range []string{"The push refers to repository [" + r.Addr + "/dir/app]", "Pushed", "1: digest: sha256:"} {
		if !strings.Contains(out, want) {
			t.Errorf("push: %q is not in\n%s", want, out)
		}
	}
	if out := e.Must(t, "push", name); strings.Count(out, "Layer already exists") != 2 {
		t.Errorf("pushed again:\n%s", out)
	}
	if out := e.Must(t, "tag", name, r.Addr+"/other:2") + e.Must(t, "push", r.Addr+"/other:2"); !strings.Contains(out, "Mounted from dir/app") {
		t.Errorf("pushed to another repository of the registry:\n%s", out)
	}
	var remote struct {
		Digest     string
		LayersData []struct{ MIMEType string }
	}
	if err := json.Unmarshal([]byte(run(t, "skopeo", "inspect", "--tls-verify=false", "docker://"+name)), &remote); err != nil {
		t.Fatal(err)
	}
	for _, l := range remote.LayersData {
		if !strings.HasSuffix(l.MIMEType, "gzip") {
			t.Errorf("a layer of the type %s was pushed, which is not compressed", l.MIMEType)
		}
	}
	e.Must(t, "rm", "made")
	e.Must(t, "rmi", name, r.Addr+"/other:2")
	out = e.Must(t, "pull", name)
	for _, want := range []string{"1: Pulling from dir/app", "Digest: " + remote.Digest, "Status: Downloaded newer image for " + name} {
		if !strings.Contains(out, want) {
			t.Errorf("pull: %q is not in\n%s", want, out)
		}
	}
	if got := e.Must(t, "run", "--rm", name, "sh", "-c", "cat /mark; ls /etc/group 2>&1 || true"); !strings.HasPrefix(got, "marked") || !strings.Contains(got, "No such file") {
		t.Errorf("the image that came back has %q", got)
	}
	if out := e.Must(t, "pull", name); !strings.Contains(out, "Status: Image is up to date for "+name) {
		t.Errorf("pulled again:\n%s", out)
	}
	if got := e.Must(t, "image", "inspect", "-f", "{{index .RepoDigests 0}}", name); got != r.Addr+"/dir/app@"+remote.Digest {
		t.Errorf("RepoDigests = %s", got)
	}
	e.Must(t, "rmi", name)
	byDigest := r.Addr + "/dir/app@" + remote.Digest
	e.Must(t, "pull", byDigest)
	e.Must(t, "run", "--rm", byDigest, "cat", "/mark")
}

// What others pushed is pulled, and what was pushed here others pull.
func TestForeignClients(t *testing.T) {
	e, r := engine(t), testkit.StartForeignRegistry(t, testkit.RegistryOptions{})
	dir := t.TempDir()
	base := busybox(t)
	for _, c := range []struct{ compress, format string }{{"gzip", "oci"}, {"gzip", "v2s2"}, {"zstd", "oci"}} {
		tag := c.compress + "-" + c.format
		archive := filepath.Join(dir, tag+".tar")
		img := base.Named("x:1").Add(imagemaker.Layer{imagemaker.File("/made", tag)})
		write(t, archive, imagemaker.Archive{Images: []imagemaker.Image{img}, OCI: true})
		run(t, "skopeo", "copy", "--dest-tls-verify=false", "--dest-compress-format", c.compress, "--format", c.format, "oci-archive:"+archive, "docker://"+r.Addr+"/made:"+tag)
		e.Must(t, "pull", "-q", r.Addr+"/made:"+tag)
		if got := e.Must(t, "run", "--rm", r.Addr+"/made:"+tag, "cat", "/made"); got != tag {
			t.Errorf("%s: %q", tag, got)
		}
	}
	if out := e.Must(t, "pull", "-a", r.Addr+"/made"); strings.Count(out, "Image is up to date") != 3 {
		t.Errorf("all tags:\n%s", out)
	}
	e.Must(t, "tag", "bb", r.Addr+"/bb:ours")
	e.Must(t, "push", "-q", r.Addr+"/bb:ours")
	root := filepath.Join(dir, "podman")
	podman := []string{"--root", filepath.Join(root, "root"), "--runroot", filepath.Join(root, "run"), "--storage-driver", "vfs"}
	run(t, "podman", append(podman, "pull", "-q", "--tls-verify=false", r.Addr+"/bb:ours")...)
	if out := run(t, "podman", append(podman, "images", "--format", "{{.Repository}}:{{.Tag}}")...); strings.TrimSpace(out) != r.Addr+"/bb:ours" {
		t.Errorf("podman has %s", out)
	}
	// A foreign image, pulled here, goes on to another place as it is: under its digest.
	e.Must(t, "tag", r.Addr+"/made:zstd-oci", r.Addr+"/again:1")
	out := e.Must(t, "push", r.Addr+"/again:1")
	_, head := r.Head(t, "/v2/made/manifests/zstd-oci", "application/vnd.oci.image.manifest.v1+json")
	if d := head.Get("Docker-Content-Digest"); d == "" || !strings.Contains(out, d) {
		t.Errorf("the digest %q is not in\n%s", d, out)
	}
}

// An image of several platforms: the host's comes, or the one that is asked for; the index goes on only when it is whole.
func TestPlatforms(t *testing.T) {
	e, r := engine(t), testkit.StartForeignRegistry(t, testkit.RegistryOptions{})
	archive := filepath.Join(t.TempDir(), "multi.tar")
	amd, arm := busybox(t).Named("m:1"), busybox(t).Named("m:1")
	amd.Platform.OS, amd.Platform.Architecture = "linux", "amd64"
	arm.Platform.OS, arm.Platform.Architecture = "linux", "arm64"
	arm = arm.Add(imagemaker.Layer{imagemaker.File("/arm", "arm")})
	write(t, archive, imagemaker.Archive{Images: []imagemaker.Image{amd, arm}, OCI: true, Index: true})
	name := r.Addr + "/multi:1"
	run(t, "skopeo", "copy", "--all", "--dest-tls-verify=false", "oci-archive:"+archive, "docker://"+name)
	e.Must(t, "pull", "-q", name)
	if got := e.Must(t, "image", "inspect", "-f", "{{.Architecture}}", name); got != "amd64" {
		t.Errorf("architecture = %s", got)
	}
	e.Must(t, "run", "--rm", name, "true")
	fails(t, e, "no matching manifest for linux/s390x in the manifest list entries", "pull", "--platform", "linux/s390x", name)
	if out := e.Must(t, "push", name); !strings.Contains(out, "linux/amd64") {
		t.Errorf("an index of which one platform is here was pushed:\n%s", out)
	}
	run(t, "skopeo", "copy", "--all", "--dest-tls-verify=false", "oci-archive:"+archive, "docker://"+name)
	e.Must(t, "pull", "-q", "--platform", "linux/arm64", name)
	index := e.Must(t, "image", "inspect", "-f", "{{.Id}}", name)
	if out := e.Must(t, "push", name); !strings.Contains(out, "digest: "+index) {
		t.Errorf("the whole index %s was not pushed:\n%s", index, out)
	}
	fails(t, e, "does not match the specified platform", "pull", "--platform", "linux/arm64", pushed(t, e, r, "bb"))
}

// pushed pushes a local image and gives its name there.
func pushed(t *testing.T, e *testkit.Engine, r *testkit.ForeignRegistry, image string) string {
	t.Helper()
	name := r.Addr + "/" + image + ":single"
	e.Must(t, "tag", image, name)
	e.Must(t, "push", "-q", name)
	e.Must(t, "rmi", name)
	return name
}

// Credentials: wrong ones are told, right ones are kept by the client and sent along, and without them nothing goes.
func TestLogin(t *testing.T) {
	const ann = "ann:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n" // bcrypt of "secret"
	e, r := engine(t), testkit.StartForeignRegistry(t, testkit.RegistryOptions{Htpasswd: ann})
	config := t.TempDir()
	name := r.Addr + "/private:1"
	e.Must(t, "tag", "bb", name)
	docker := func(args ...string) (string, string, int) {
		return e.Docker(append([]string{"--config", config}, args...)...)
	}
	if _, errs, code := docker("push", name); code != 1 || !strings.Contains(errs, "no basic auth credentials") {
		t.Errorf("pushed without credentials: %d, %s", code, errs)
	}
	if _, errs, code := docker("login", "-u", "ann", "-p", "wrong", r.Addr); code != 1 || !strings.Contains(errs, "401 Unauthorized") {
		t.Errorf("a wrong password: %d, %s", code, errs)
	}
	if out, errs, code := docker("login", "-u", "ann", "-p", "secret", r.Addr); code != 0 || !strings.Contains(out, "Login Succeeded") {
		t.Fatalf("the right password: %d, %s%s", code, out, errs)
	}
	if out, errs, code := docker("push", name); code != 0 {
		t.Fatalf("push: %s%s", out, errs)
	}
	e.Must(t, "rmi", name)
	if out, errs, code := docker("pull", name); code != 0 {
		t.Errorf("pull: %s%s", out, errs)
	}
	if out, errs, code := docker("search", r.Addr+"/priv"); code != 0 || !strings.Contains(out, r.Addr+"/private") {
		t.Errorf("search: %d, %s%s", code, out, errs)
	}
	docker("logout", r.Addr)
	if _, errs, code := docker("pull", name); code != 1 || !strings.Contains(errs, "pull access denied for "+r.Addr+"/private") {
		t.Errorf("pulled after logout: %d, %s", code, errs)
	}
}

// What cannot be had is told in Docker's words.
func TestRefusals(t *testing.T) {
	e, r := engine(t), testkit.StartForeignRegistry(t, testkit.RegistryOptions{})
	name := pushed(t, e, r, "bb")
	repo := strings.TrimSuffix(name, ":single")
	fails(t, e, "manifest for "+repo+":none not found: manifest unknown", "pull", repo+":none")
	fails(t, e, "connection refused", "pull", "127.0.0.1:1/x")
	fails(t, e, "An image does not exist locally with the tag: "+r.Addr+"/never", "push", r.Addr+"/never:1")
	e.Must(t, "tag", "bb", repo+":here")
	fails(t, e, "tag does not exist: "+repo+":gone", "push", repo+":gone")
	if out := e.Must(t, "run", "--rm", name, "echo", "pulled and run"); !strings.HasSuffix(out, "pulled and run") {
		t.Errorf("run of an image that is not here: %s", out)
	}
}

// What attests to an image comes with it, and goes on with the index.
func TestAttestationsCome(t *testing.T) {
	e, r, to := testkit.Start(t, testkit.Options{}), registry.New(t), registry.New(t)
	img := r.AddImage("app", "", registry.Image{Layers: [][]byte{layer("a", 1000)}})
	config, statement := r.AddBlob("app", []byte("{}")), r.AddBlob("app", []byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`))
	config.MediaType, statement.MediaType = ocispec.MediaTypeImageConfig, "application/vnd.in-toto+json"
	body, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{statement}})
	if err != nil {
		t.Fatal(err)
	}
	att := r.AddManifest("app", "", ocispec.MediaTypeImageManifest, body)
	att.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	att.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": img.Digest.String()}
	index := r.AddIndex("app", "1", img, att)
	name := r.Host + "/app:1"
	e.Must(t, "pull", "-q", name)
	var seen struct {
		Manifests []struct {
			ID, Kind  string
			Available bool
		}
	}
	out, _, _ := e.Gantry("image", "inspect", "-f", "{{json .}}", name)
	res, err := e.HTTP().Get("http://gantry/images/" + r.Host + "/app:1/json?manifests=1")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&seen); err != nil || len(seen.Manifests) != 2 {
		t.Fatalf("%v: %+v: %s", err, seen, out)
	}
	for _, m := range seen.Manifests {
		if !m.Available {
			t.Errorf("the %s %s did not come", m.Kind, m.ID)
		}
	}
	e.Must(t, "tag", name, to.Host+"/app:1")
	e.Must(t, "push", to.Host+"/app:1")
	for _, d := range []string{"1", index.Digest.String(), att.Digest.String()} {
		if _, _, ok := to.Manifest("app", d); !ok {
			t.Errorf("%s was not pushed", d)
		}
	}
	if _, ok := to.Blob("app", statement.Digest); !ok {
		t.Error("the statement was not pushed")
	}
}
