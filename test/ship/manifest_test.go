package ship

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// desk is somebody with a client and a configuration folder.
type desk struct {
	client, home string
	env          []string
}

// desks are two of them: one with the official client, and one with ours under its name.
func desks(t *testing.T) (official, ours *desk) {
	t.Helper()
	path, err := exec.LookPath("docker")
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "docker")
	if err := os.Symlink(filepath.Join(testkit.Bin(t), "gantry"), link); err != nil {
		t.Fatal(err)
	}
	return &desk{client: path, home: t.TempDir()}, &desk{client: link, home: t.TempDir()}
}

// manifest runs a manifest command and gives what it printed, and its exit code.
func (d *desk) manifest(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	cmd := exec.Command(d.client, append([]string{"manifest"}, args...)...)
	cmd.Env = append(append(os.Environ(), "DOCKER_CONFIG="+d.home, "DOCKER_HOST=unix:///nowhere"), d.env...)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

func (d *desk) must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := d.manifest(t, args...)
	if code != 0 {
		t.Fatalf("%s manifest %s: exit %d, %s%s", d.client, strings.Join(args, " "), code, out, errs)
	}
	return out
}

// store is the files below a desk's manifests, by name.
func (d *desk) store(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	root := filepath.Join(d.home, "manifests")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		out[name] = string(b)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

// seed pushes an image of a platform in OCI's and in Docker's form, as "amd64-oci" and "amd64-v2s2".
func seed(t *testing.T, addr string, creds ...string) {
	t.Helper()
	for _, p := range [][3]string{{"linux", "amd64"}, {"linux", "arm64", "v8"}, {"windows", "386"}} {
		img := busybox(t).Named("x:1").Add(imagemaker.Layer{imagemaker.File("/made", p[1])})
		img.Platform.OS, img.Platform.Architecture, img.Platform.Variant = p[0], p[1], p[2]
		archive := filepath.Join(t.TempDir(), "a.tar")
		write(t, archive, imagemaker.Archive{Images: []imagemaker.Image{img}, OCI: true})
		for _, form := range []string{"oci", "v2s2"} {
			run(t, "skopeo", append([]string{"copy", "-q", "--dest-tls-verify=false", "--format", form, "oci-archive:" + archive, "docker://" + addr + "/app:" + p[1] + "-" + form}, creds...)...)
		}
	}
}

// Both clients do the same with the same commands: what they print, how they end, and what is in their stores and in the registry.
func TestManifestBesideDocker(t *testing.T) {
	r := testkit.StartForeignRegistry(t, testkit.RegistryOptions{})
	seed(t, r.Addr)
	official, ours := desks(t)
	_, head := r.Head(t, "/v2/app/manifests/arm64-oci", "application/vnd.oci.image.manifest.v1+json")
	byDigest := r.Addr + "/app@" + head.Get("Docker-Content-Digest")
	for _, line := range []string{
		"create --insecure R/app:all R/app:amd64-v2s2 R/app:arm64-v2s2", "create --insecure R/app:all R/app:amd64-oci", "create --insecure --amend R/app:all R/app:386-v2s2 R/app:arm64-v2s2",
		"inspect R/app:all", "annotate R/app:all R/app:arm64-v2s2 --variant v7 --os-features a,b --os-features b,c --os-version 1", "annotate R/app:all R/app:386-v2s2 --os freebsd --arch arm",
		"annotate R/app:all R/app:none --os linux", "annotate R/none:1 R/app:386-v2s2 --os linux", "inspect R/app:all", "inspect -v R/app:all", "inspect R/app:all R/app:arm64-v2s2",
		"inspect -v R/app:all R/app:arm64-v2s2", "inspect R/app:all R/app:none", "push --insecure R/app:all", "inspect --insecure R/app:amd64-v2s2", "inspect --insecure -v R/app:amd64-v2s2",
		"inspect --insecure R/app:amd64-oci", "inspect --insecure -v R/app:amd64-oci", "push -p --insecure R/app:all", "push R/app:all", "inspect --insecure R/app:all", "inspect -v --insecure R/app:all",
		"create --insecure R/app:oci R/app:amd64-oci D", "inspect -v R/app:oci", "push --insecure R/app:oci", "create --insecure R/app:mixed R/app:386-oci R/app:amd64-v2s2", "push --insecure R/app:mixed",
		"create --insecure R/list R/app:all", "create --insecure R/list R/app:none", "create --insecure R/list R/none", "create --insecure R/list D", "rm R/list:latest R/none R/app:oci", "rm R/list",
		"create --insecure 127.0.0.2:5000/x D", "push --insecure 127.0.0.2:5000/x", "create --insecure short D", "push short", "rm short:latest", "inspect --insecure D", "inspect R/app:mixed D",
		"create Bad D", "create R/x Bad", "create R/x", "inspect Bad", "inspect R/x Bad", "inspect Bad R/x", "inspect", "inspect a b c", "annotate Bad a", "annotate a Bad", "annotate a",
		"push Bad", "push", "rm Bad", "rm", "inspect --none x", "create --insecure=maybe a b",
	} {
		args := strings.Fields(strings.NewReplacer("R/", r.Addr+"/", " D", " "+byDigest).Replace(line))
		out, errs, code := official.manifest(t, args...)
		if o, e, c := ours.manifest(t, args...); o != out || e != errs || c != code {
			t.Errorf("manifest %s:\ndocker: exit %d, %s%s\ngantry: exit %d, %s%s", line, code, out, errs, c, o, e)
		}
		if a, b := official.store(t), ours.store(t); !maps.Equal(a, b) {
			t.Fatalf("after manifest %s the stores differ:\n%v\n%v", line, a, b)
		}
	}
	// Where the image is in another repository it is brought along: each client has one to push to, of names that are as long.
	for name, d := range map[string]*desk{"there/docker": official, "there/gantry": ours} {
		d.must(t, "create", "--insecure", r.Addr+"/"+name, r.Addr+"/app:amd64-oci", r.Addr+"/app:386-v2s2")
	}
	a, b := official.must(t, "push", "--insecure", r.Addr+"/there/docker"), ours.must(t, "push", "--insecure", r.Addr+"/there/gantry")
	if strings.ReplaceAll(a, "there/docker", "there/gantry") != b || strings.Count(b, "Pushed ref ") != 2 {
		t.Errorf("push to another repository:\n%s\n%s", a, b)
	}
	run(t, "skopeo", "copy", "-q", "--all", "--src-tls-verify=false", "docker://"+r.Addr+"/there/gantry", "dir:"+t.TempDir())
}

// What one client put into the store the other goes on with, and what ours pushes others read.
func TestManifestTogether(t *testing.T) {
	r := testkit.StartForeignRegistry(t, testkit.RegistryOptions{})
	seed(t, r.Addr)
	official, ours := desks(t)
	ours.home = official.home
	list := r.Addr + "/app:all"
	ours.must(t, "create", "--insecure", list, r.Addr+"/app:amd64-oci", r.Addr+"/app:arm64-oci")
	official.must(t, "annotate", "--variant", "v9", list, r.Addr+"/app:arm64-oci")
	official.must(t, "create", "--amend", "--insecure", list, r.Addr+"/app:386-oci")
	ours.must(t, "annotate", "--os-version", "7", list, r.Addr+"/app:386-oci")
	want := official.must(t, "inspect", list)
	if got := ours.must(t, "inspect", list); got != want {
		t.Errorf("one list, shown as\n%s\nand as\n%s", want, got)
	}
	ours.must(t, "push", "--purge", "--insecure", list)
	if left := official.store(t); len(left) != 0 {
		t.Errorf("the store still has %v", slices.Collect(maps.Keys(left)))
	}
	if got := official.must(t, "inspect", "--insecure", list); got != want {
		t.Errorf("after the push it is\n%s\nnot\n%s", got, want)
	}
	raw := run(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+list)
	if raw+"\n" != want {
		t.Errorf("skopeo reads\n%s", raw)
	}
	var found struct{ Architecture, Os string }
	if err := json.Unmarshal([]byte(run(t, "skopeo", "inspect", "--override-arch", "386", "--override-os", "windows", "--tls-verify=false", "docker://"+list)), &found); err != nil || found.Architecture != "386" {
		t.Errorf("skopeo picks %v, %v", found, err)
	}
}

// Credentials come from the configuration, in the file or with a helper.
func TestManifestCredentials(t *testing.T) {
	const ann = "ann:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n" // bcrypt of "secret"
	r := testkit.StartForeignRegistry(t, testkit.RegistryOptions{Htpasswd: ann})
	seed(t, r.Addr, "--dest-creds", "ann:secret")
	bin := t.TempDir()
	helper := "#!/bin/sh\nread server\n[ \"$1 $server\" = \"get " + r.Addr + "\" ] || { echo credentials not found; exit 1; }\necho '{\"ServerURL\":\"'$server'\",\"Username\":\"ann\",\"Secret\":\"secret\"}'\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-desk"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	_, ours := desks(t)
	ours.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	list := r.Addr + "/other/list:1"
	for config, works := range map[string]bool{
		`{}`: false,
		`{"auths":{"` + r.Addr + `":{"auth":"YW5uOndyb25n"}}}`:     false,
		`{"auths":{"` + r.Addr + `":{"auth":"YW5uOnNlY3JldA=="}}}`: true,
		`{"credsStore":"desk"}`:                                    true,
		`{"credHelpers":{"` + r.Addr + `":"desk"}}`:                true,
	} {
		if err := os.WriteFile(filepath.Join(ours.home, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, errs, code := ours.manifest(t, "create", list, r.Addr+"/app:amd64-oci"); (code == 0) != works {
			t.Errorf("%s: exit %d, %s%s", config, code, out, errs)
		} else if !works && !strings.Contains(errs, "pull access denied for "+r.Addr+"/app, repository does not exist or may require 'docker login'") {
			t.Errorf("%s: %s", config, errs)
		}
		if works {
			ours.must(t, "push", "--purge", list)
			ours.must(t, "inspect", list)
		}
	}
}
