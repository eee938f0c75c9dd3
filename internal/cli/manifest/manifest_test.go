package manifest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/cli/ref"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || got != string(want) {
		t.Errorf("%s: %v, got\n%s\nwant\n%s", name, err, got, want)
	}
}

// The life of a list: created from two images, amended, annotated, looked at, pushed, gone.
func TestLife(t *testing.T) {
	l := newLab(t)
	app := l.repo("r.test/app")
	app.image("amd", dockerManifest, "linux/amd64")
	app.image("arm", dockerManifest, "linux/arm64/v8")
	app.image("win", dockerManifest, "windows/amd64")
	if out := l.must("create", "r.test/app:all", "r.test/app:amd", "r.test/app:arm"); out != "Created manifest list r.test/app:all\n" {
		t.Errorf("create: %q", out)
	}
	if want := []string{"r.test_app-all", "r.test_app-all/r.test_app-amd", "r.test_app-all/r.test_app-arm"}; !slices.Equal(l.files(), want) {
		t.Errorf("the store has %q", l.files())
	}
	l.fails("refusing to amend an existing manifest list with no --amend flag", "create", "r.test/app:all", "r.test/app:win")
	l.must("annotate", "--variant", "v7", "--os-features", "a,b", "--os-version", "9", "r.test/app:all", "r.test/app:arm")
	l.must("create", "-a", "r.test/app:all", "r.test/app:win", "r.test/app:arm")
	golden(t, "list", l.must("inspect", "r.test/app:all"))
	golden(t, "list-verbose", l.must("inspect", "-v", "r.test/app:all"))
	golden(t, "entry", l.must("inspect", "r.test/app:all", "r.test/app:win"))
	golden(t, "entry-verbose", l.must("inspect", "--verbose", "r.test/app:all", "r.test/app:win"))
	file, err := os.ReadFile(filepath.Join(l.home, "manifests/r.test_app-all/r.test_app-arm"))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "file", string(file)+"\n")

	out := l.must("push", "r.test/app:all")
	pushed := app.content[app.tags["all"]]
	if digest.FromBytes(pushed).String()+"\n" != out || app.types[app.tags["all"]] != dockerList {
		t.Errorf("push: %q, %s of the type %s is there", out, digest.FromBytes(pushed), app.types[app.tags["all"]])
	}
	if shown := l.must("inspect", "r.test/app:all"); shown != string(pushed)+"\n" {
		t.Errorf("what was pushed is\n%s\nand not what was shown\n%s", pushed, shown)
	}
	l.must("push", "--purge", "r.test/app:all")
	if len(l.files()) != 0 {
		t.Errorf("after --purge the store has %q", l.files())
	}
	if shown := l.must("inspect", "r.test/app:all"); shown != string(pushed)+"\n" {
		t.Errorf("the registry's list is shown as\n%s", shown)
	}
	golden(t, "remote-verbose", l.must("inspect", "-v", "r.test/app:all"))
}

// The first entry says of which kind a list is.
func TestKinds(t *testing.T) {
	l := newLab(t)
	app := l.repo("r.test/app")
	app.image("b-docker", dockerManifest, "linux/amd64")
	app.image("a-oci", ocispec.MediaTypeImageManifest, "linux/arm64")
	app.image("c-oci", ocispec.MediaTypeImageManifest, "linux/386")
	for _, c := range []struct {
		entries []string
		want    string
	}{{[]string{"b-docker", "a-oci"}, ocispec.MediaTypeImageIndex}, {[]string{"c-oci", "b-docker"}, dockerList}} {
		l.must("create", "r.test/app:all", "r.test/app:"+c.entries[0], "r.test/app:"+c.entries[1])
		l.must("push", "-p", "r.test/app:all")
		if got := app.types[app.tags["all"]]; got != c.want {
			t.Errorf("%v: %s", c.entries, got)
		}
	}
}

// Images of other repositories of the registry come along; their blobs are mounted, or sent.
func TestOtherRepositories(t *testing.T) {
	for _, deny := range []bool{false, true} {
		l := newLab(t)
		l.deny = deny
		d := l.repo("r.test/app").image("1", ocispec.MediaTypeImageManifest, "linux/amd64")
		l.must("create", "r.test/team/list", "r.test/app:1", "r.test/app@"+d.Digest.String())
		l.asked = nil
		out := l.must("push", "r.test/team/list")
		to := l.repo("r.test/team/list")
		line := fmt.Sprintf("Pushed ref r.test/team/list@%s with digest: %s\n", d.Digest, d.Digest)
		if out != line+line+to.tags["latest"].String()+"\n" {
			t.Errorf("push: %q", out)
		}
		way := map[bool]string{false: "mount", true: "upload"}[deny] + " r.test/team/list"
		if want := []string{way, way, "Put r.test/team/list", way, way, "Put r.test/team/list", "Put r.test/team/list"}; !slices.Equal(l.asked, want) {
			t.Errorf("asked: %q", l.asked)
		}
		if len(to.content) != 4 { // configuration, layer, manifest, list: the foreign layer stays where it is
			t.Errorf("%d things were pushed", len(to.content))
		}
	}
}

func TestRefusals(t *testing.T) {
	l := newLab(t)
	app := l.repo("r.test/app")
	d := app.image("1", ocispec.MediaTypeImageManifest, "linux/amd64")
	app.add("index", ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
	app.add("thing", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":{"mediaType":"application/x","digest":"`+d.Digest.String()+`","size":3},"layers":[]}`))
	app.add("broken", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":`))
	app.add("lost", ocispec.MediaTypeImageManifest, []byte(`{"config":{"mediaType":"`+ocispec.MediaTypeImageConfig+`","digest":"sha256:`+strings.Repeat("0", 64)+`","size":3}}`))
	app.add("huge", ocispec.MediaTypeImageManifest, []byte(`{"config":{"mediaType":"`+ocispec.MediaTypeImageConfig+`","digest":"`+d.Digest.String()+`","size":99999999}}`))
	for _, c := range []struct{ text, line string }{
		{"error parsing name for manifest list Bad: invalid reference format", "create Bad r.test/app:1"},
		{"must be lowercase", "create r.test/app:all Bad"},
		{"no such manifest: r.test/app:none", "create r.test/app:all r.test/app:1 r.test/app:none"},
		{"r.test/app:index is a manifest list", "create r.test/app:all r.test/app:1 r.test/app:index"},
		{"is not JSON", "create r.test/app:all r.test/app:broken"},
		{"reading the configuration of an image", "create r.test/app:all r.test/app:lost"},
		{"more than 8388608", "create r.test/app:all r.test/app:huge"},
		{"plain.test speaks plain HTTP", "create plain.test/all plain.test/a"},
		{"no such manifest: docker.io/library/none:latest", "inspect none"},
		{"No such manifest: docker.io/library/b:latest", "inspect a b"},
		{"must be lowercase", "inspect Bad r.test/app:1"},
		{"must be lowercase", "inspect Bad"},
		{"annotate: error parsing name for manifest list Bad: ", "annotate Bad a"},
		{"annotate: error parsing name for manifest Bad: ", "annotate a Bad"},
		{"manifest for image b does not exist in a", "annotate a b"},
		{"No such manifest: docker.io/library/a:latest", "push a"},
		{"must be lowercase", "push Bad"},
		{"No such manifest: docker.io/library/a:1\ninvalid reference format: repository name (library/Bad) must be lowercase\nNo such manifest: docker.io/library/b:latest", "rm a:1 Bad b"},
		{"requires at least 2 arguments", "create a"}, {"requires 2 arguments", "annotate a"}, {"at least 1 and at most 2", "inspect"}, {"requires 1 argument", "push"}, {"requires at least 1", "rm"},
	} {
		l.fails(c.text, strings.Fields(c.line)...)
	}
	if len(l.files()) != 0 {
		t.Errorf("refused commands left %q", l.files())
	}
	l.must("create", "--insecure", "plain.test/l", "r.test/app:1")
	l.fails("cannot use source images from a different registry than the target image: r.test != plain.test", "push", "--insecure", "plain.test/l")
	l.must("create", "r.test/app:all", "r.test/app:thing", "r.test/app:1")
	l.fails("manifest r.test/app:thing must have an OS and Architecture to be pushed to a registry", "push", "r.test/app:all")
	l.fails("unsupported os/arch combination: linux/", "annotate", "--os", "linux", "r.test/app:all", "r.test/app:thing")
	l.fails("unsupported os/arch combination: linux/amd65", "annotate", "--arch", "amd65", "r.test/app:all", "r.test/app:1")
	l.must("annotate", "--os", "linux", "--arch", "amd64", "r.test/app:all", "r.test/app:thing")
	l.must("push", "r.test/app:all")
	if app.tags["all"] == "" {
		t.Error("nothing was pushed")
	}
}

// What others left in the store is told, not stumbled over.
func TestDamagedStore(t *testing.T) {
	l := newLab(t)
	l.repo("r.test/app").image("1", dockerManifest, "linux/amd64")
	l.must("create", "r.test/app:all", "r.test/app:1")
	dir := filepath.Join(l.home, "manifests/r.test_app-all")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("zz", "{")
	for _, line := range []string{"inspect r.test/app:all", "push r.test/app:all", "create -a r.test/app:all r.test/app:1"} {
		l.fails("zz is not to be read", strings.Fields(line)...)
	}
	if err := os.Truncate(filepath.Join(dir, "zz"), maxEntry+1); err != nil {
		t.Fatal(err)
	}
	l.fails("is no entry of a manifest list", "inspect", "r.test/app:all")
	l.must("rm", "r.test/app:all")

	// An entry of an old client has no bytes: it is shown, and pushed as part of a list, but not to another repository.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write("r.test_app-1", `{"Ref":"r.test/app:1","Descriptor":{"mediaType":"`+dockerManifest+`","digest":"sha256:`+strings.Repeat("1", 64)+`","size":5,"platform":{"architecture":"amd64","os":"linux"}},"SchemaV2Manifest":{"schemaVersion":2}}`)
	if out := l.must("inspect", "r.test/app:all", "r.test/app:1"); out != "{\n\t\"schemaVersion\": 2\n}\n" {
		t.Errorf("shown as %q", out)
	}
	l.must("push", "r.test/app:all")
	if err := os.Rename(dir, filepath.Join(l.home, "manifests/r.test_other-all")); err != nil {
		t.Fatal(err)
	}
	l.fails("does not have the bytes of its manifest", "push", "r.test/other:all")

	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l.fails("r.test/app:all not found", "push", "r.test/app:all")
	if out := l.must("inspect", "-v", "r.test/app:all"); out != "[]\n" {
		t.Errorf("an empty list: %q", out)
	}
}

// A program that was killed leaves a folder that is no list, and goes after a while.
func TestSweep(t *testing.T) {
	l := newLab(t)
	l.repo("r.test/app").image("1", dockerManifest, "linux/amd64")
	left, fresh := filepath.Join(l.home, "manifests", staged+"1"), filepath.Join(l.home, "manifests", staged+"2")
	for _, dir := range []string{left, fresh} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	l.must("create", "r.test/app:all", "r.test/app:1")
	if _, err := os.Stat(left); err == nil {
		t.Error("what an hour ago was left is still there")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("what another program may be writing is gone: %v", err)
	}
}

// A registry's lists are shown whatever they hold; how many of their manifests are fetched is bounded.
func TestRemoteLists(t *testing.T) {
	l := newLab(t)
	app := l.repo("r.test/app")
	one := app.image("1", ocispec.MediaTypeImageManifest, "linux/amd64")
	entry := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, one.MediaType, one.Digest, one.Size)
	inner := app.add("inner", ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[`+entry+`]}`))
	app.add("outer", ocispec.MediaTypeImageIndex, fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, inner.MediaType, inner.Digest, inner.Size))
	app.add("none", dockerList, []byte(`{"schemaVersion":2}`))
	app.add("many", ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[`+entry+strings.Repeat(","+entry, maxChildren)+`]}`))
	app.add("gap", ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"`+one.MediaType+`","digest":"sha256:`+strings.Repeat("0", 64)+`","size":5}]}`))
	for tag, want := range map[string]int{"inner": 1, "outer": 1, "none": 0, "many": maxChildren + 1, "gap": 1} {
		var got list
		if err := json.Unmarshal([]byte(l.must("inspect", "r.test/app:"+tag)), &got); err != nil || len(got.Manifests) != want || got.Manifests == nil {
			t.Errorf("%s: %v, %v", tag, err, got)
		}
	}
	for tag, want := range map[string]int{"inner": 1, "outer": 1, "none": 0} {
		var got []Entry
		if err := json.Unmarshal([]byte(l.must("inspect", "-v", "r.test/app:"+tag)), &got); err != nil || len(got) != want {
			t.Errorf("%s: %v, %v", tag, err, got)
		}
	}
	l.fails("more than 1000: ask without --verbose", "inspect", "-v", "r.test/app:many")
	l.fails("no such manifest: r.test/app:gap@sha256:000", "inspect", "-v", "r.test/app:gap")
	app.content[one.Digest] = []byte("something else")
	l.fails("the registry sent sha256:", "inspect", "-v", "r.test/app:inner")
}

// Credentials come from the client's configuration.
func TestCredentials(t *testing.T) {
	l := newLab(t)
	l.repo("r.test/app").image("1", dockerManifest, "linux/amd64")
	l.repo("docker.io/library/app").image("latest", dockerManifest, "linux/amd64")
	if err := os.MkdirAll(l.home, 0o755); err != nil {
		t.Fatal(err)
	}
	config := `{"auths":{"r.test":{"auth":"YW5uOnM="},"https://index.docker.io/v1/":{"auth":"Ym9iOnM="}}}`
	if err := os.WriteFile(filepath.Join(l.home, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l.must("inspect", "r.test/app:1")
	l.must("inspect", "app")
	if want := []string{"ann Resolve r.test/app", "bob Resolve docker.io/library/app"}; !slices.Equal(l.asked, want) {
		t.Errorf("asked: %q", l.asked)
	}
}

// In the program that does not reach registries, verbs about the store alone work, and the others hand over.
func TestHandOver(t *testing.T) {
	l := newLab(t)
	l.repo("r.test/app").image("1", dockerManifest, "linux/amd64")
	l.must("create", "r.test/app:all", "r.test/app:1")
	for line, over := range map[string]bool{
		"create r.test/app:all r.test/app:1": true, "push r.test/app:all": true, "inspect r.test/app:1": true,
		"inspect r.test/app:all": false, "inspect r.test/app:all r.test/app:1": false, "annotate --arch arm64 r.test/app:all r.test/app:1": false,
	} {
		if _, err := l.with(nil, strings.Fields(line)...); (err != nil) != over || over && !strings.Contains(err.Error(), "gantry-manifest") {
			t.Errorf("%s: %v", line, err)
		}
	}
	if _, err := l.with(nil, "rm", "r.test/app:all"); err != nil || len(l.files()) != 0 {
		t.Errorf("rm: %v, %q", err, l.files())
	}
}

// A create that is stopped leaves no list.
func TestCancelled(t *testing.T) {
	l := newLab(t)
	l.repo("r.test/app").image("1", dockerManifest, "linux/amd64")
	stop := fmt.Errorf("stopped: %w", context.Canceled)
	_, err := l.with(func(_ context.Context, r ref.Ref, _ registry.AuthConfig, _ bool) (Repository, error) {
		if r.Tag == "2" {
			return nil, stop
		}
		return l.opener(t.Context(), r, registry.AuthConfig{}, false)
	}, "create", "r.test/app:all", "r.test/app:1", "r.test/app:2")
	if err != stop || len(l.files()) != 0 {
		t.Errorf("%v, %q", err, l.files())
	}
}
