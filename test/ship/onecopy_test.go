package ship

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

// blobFiles are the files of the content store that are larger than a manifest or a configuration.
func blobFiles(t *testing.T, e *testkit.Engine) (names []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(e.DataRoot, "content/blobs/sha256/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if st, err := os.Stat(p); err == nil && st.Size() > 64<<10 {
			names = append(names, filepath.Base(p))
		}
	}
	return names
}

// settles waits until no layer has a blob beside its files.
func settles(t *testing.T, e *testkit.Engine) {
	t.Helper()
	for range 500 {
		if len(blobFiles(t, e)) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("blobs are kept beside their layers: %v", blobFiles(t, e))
}

// saved saves an image with the official client.
func saved(t *testing.T, e *testkit.Engine, name string) []byte {
	t.Helper()
	p := filepath.Join(t.TempDir(), "saved.tar")
	e.Must(t, "save", "-o", p, name)
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// An archive's layers are on disk once, unpacked; save gives the same archive before and after, and after a restart.
func TestOneCopyOfALoadedImage(t *testing.T) {
	e := testkit.Start(t, testkit.Options{})
	archive := filepath.Join(e.Dir, "bb.tar")
	if err := imagemaker.WriteBusybox(archive, "bb:latest"); err != nil {
		t.Fatal(err)
	}
	e.Must(t, "load", "-q", "-i", archive)
	settles(t, e)
	first := saved(t, e, "bb")
	e.Kill()
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	if again := saved(t, e, "bb"); !bytes.Equal(first, again) {
		t.Error("after a restart another archive is saved")
	}
	other := testkit.Start(t, testkit.Options{})
	to := filepath.Join(e.Dir, "again.tar")
	if err := os.WriteFile(to, first, 0o600); err != nil {
		t.Fatal(err)
	}
	other.Must(t, "load", "-q", "-i", to)
	if a, b := e.Must(t, "images", "-q", "--no-trunc", "bb"), other.Must(t, "images", "-q", "--no-trunc", "bb"); a != b {
		t.Errorf("what was saved is loaded as %s, it was %s", b, a)
	}
	other.Must(t, "run", "--rm", "bb", "true")
	// What is loaded once more brings no file back.
	e.Must(t, "load", "-q", "-i", to)
	settles(t, e)
	e.Must(t, "rmi", "bb")
	if left, _ := filepath.Glob(filepath.Join(e.DataRoot, "content/blobs/sha256/*")); len(left) != 0 {
		t.Errorf("left of a deleted image: %v", left)
	}
}

// The compressed layers of a public image go when they are unpacked. They are fetched again where they are wanted, and where
// they cannot be, the image is saved and pushed with the same content.
func TestOneCopyOfAPulledImage(t *testing.T) {
	e, from, to := testkit.Start(t, testkit.Options{}), registry.New(t), registry.New(t)
	name, d := addImageBy(from, "app", strangely, layer("a", 3*mega), layer("bb", mega))
	e.Must(t, "pull", "-q", name)
	settles(t, e)
	if out := e.Must(t, "pull", name); !strings.Contains(out, "up to date") {
		t.Errorf("pulled again:\n%s", out)
	}
	id := e.Must(t, "images", "-q", "--no-trunc", name)
	config := e.Must(t, "image", "inspect", "-f", "{{json .RootFS.Layers}}", name)

	there := to.Host + "/app:1"
	e.Must(t, "tag", name, there)
	if out := e.Must(t, "push", there); !strings.Contains(out, "digest: "+id) {
		t.Errorf("the image %s was pushed as\n%s", id, out)
	}
	archive := filepath.Join(e.Dir, "app.tar")
	e.Must(t, "save", "-o", archive, name)
	for i := range d {
		if n := len(blobs(from, d[i])); n < 2 {
			t.Errorf("layer %d was asked for %d times: it was never dropped", i, n)
		}
	}
	settles(t, e)

	from.Break(registry.Fault{Method: "GET", Path: "/blobs/", Status: 404})
	plain := filepath.Join(e.Dir, "plain.tar")
	e.Must(t, "save", "-o", plain, name)
	third := registry.New(t)
	e.Must(t, "tag", name, third.Host+"/app:1")
	out := e.Must(t, "push", third.Host+"/app:1")
	if !strings.Contains(out, "compressed anew") {
		t.Errorf("pushed without its source:\n%s", out)
	}
	settles(t, e)
	// What the registry calls it is known here, also after a restart, and leads to the image.
	pushed := third.Host + "/app@sha256:" + between(out, "digest: sha256:", " ")
	e.Kill()
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	if got := e.Must(t, "image", "inspect", "-f", "{{json .RepoDigests}}", name); !strings.Contains(got, pushed) || !strings.Contains(got, from.Host+"/app@"+id) {
		t.Errorf("the digests of %s are %s, not also %s", name, got, pushed)
	}
	if got := e.Must(t, "image", "inspect", "-f", "{{.ID}}", pushed); got != id {
		t.Errorf("%s is %s, not %s", pushed, got, id)
	}
	// Once more nothing is compressed, or sent.
	again := len(third.Requests("PATCH", ""))
	if more := e.Must(t, "push", third.Host+"/app:1"); !strings.Contains(more, pushed[strings.Index(pushed, "sha256:"):]) {
		t.Errorf("pushed again as\n%s\nbefore as %s", more, pushed)
	}
	if n := len(third.Requests("PATCH", "")) - again; n != 0 {
		t.Errorf("pushed again with %d blobs", n)
	}
	// The registry that an image was pulled from has lost it: it gets it again.
	from.Mend()
	from.Break(registry.Fault{Method: "GET", Path: "/blobs/", Status: 404}, registry.Fault{Method: "HEAD", Path: "/blobs/", Status: 404, Times: 8})
	if out := e.Must(t, "push", name); !strings.Contains(out, "compressed anew") {
		t.Errorf("pushed to where it came from, and is not any more:\n%s", out)
	}
	from.Mend()
	settles(t, e)
	// A registry that has what was compressed for it is sent nothing, and nothing stays open of it.
	fifth := testkit.Start(t, testkit.Options{})
	fifth.Must(t, "load", "-q", "-i", plain)
	fifth.Must(t, "tag", name, third.Host+"/app:2")
	fifth.Must(t, "push", third.Host+"/app:2")
	if held := deletedFiles(t, fifth); len(held) > 0 {
		t.Errorf("open after the push: %v", held)
	}
	if held := deletedFiles(t, e); len(held) > 0 {
		t.Errorf("open after all: %v", held)
	}
	for what, have := range map[string]func(*testkit.Engine){
		"archive":        func(o *testkit.Engine) { o.Must(t, "load", "-q", "-i", archive) },
		"archive, plain": func(o *testkit.Engine) { o.Must(t, "load", "-q", "-i", plain) },
		"registry":       func(o *testkit.Engine) { o.Must(t, "pull", "-q", there); o.Must(t, "tag", there, name) },
		"registry, anew": func(o *testkit.Engine) {
			o.Must(t, "pull", "-q", third.Host+"/app:1")
			o.Must(t, "tag", third.Host+"/app:1", name)
		},
	} {
		other := testkit.Start(t, testkit.Options{})
		have(other)
		if got := other.Must(t, "image", "inspect", "-f", "{{json .RootFS.Layers}}", name); got != config {
			t.Errorf("%s: the layers are %s, they were %s", what, got, config)
		}
	}
}

// strangely compresses as no builder does: the member has a name.
func strangely(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Name = "layer"
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func between(s, begin, end string) string {
	_, s, _ = strings.Cut(s, begin)
	s, _, _ = strings.Cut(s, end)
	return s
}

// Layers that were compressed by a known encoder go, too, where nobody may fetch them without a login, and come back as they were.
func TestOneCopyOfAPrivateImage(t *testing.T) {
	e, from, to := testkit.Start(t, testkit.Options{}), registry.New(t), registry.New(t)
	name, d := addImage(from, "app", layer("a", 3*mega), layer("bb", mega))
	strange, kept := addImageBy(from, "strange", strangely, layer("c", mega))
	from.Require(registry.Auth{Scheme: "basic", User: "ann", Password: "secret"})
	mine := []string{"--config", t.TempDir()}
	e.Must(t, append(mine, "login", "-u", "ann", "-p", "secret", from.Host)...)
	e.Must(t, append(mine, "pull", "-q", name)...)
	settles(t, e)
	e.Must(t, append(mine, "pull", "-q", strange)...)
	id := e.Must(t, "images", "-q", "--no-trunc", name)
	asked := len(from.Requests("GET", "/blobs/"))

	archive := filepath.Join(e.Dir, "app.tar")
	e.Must(t, "save", "-o", archive, name)
	there := to.Host + "/app:1"
	e.Must(t, "tag", name, there)
	if out := e.Must(t, "push", there); !strings.Contains(out, "digest: "+id) {
		t.Errorf("the image %s was pushed as\n%s", id, out)
	}
	if n := len(from.Requests("GET", "/blobs/")) - asked; n != 0 {
		t.Errorf("the registry was asked for %d blobs", n)
	}
	for _, l := range d {
		if _, ok := to.Blob("app", digest.Digest(l)); !ok {
			t.Errorf("the layer %s did not arrive", l)
		}
	}
	if got := blobFiles(t, e); len(got) != 1 || "sha256:"+got[0] != kept[0] {
		t.Errorf("files of blobs: %v, should be that of %v", got, kept)
	}
	other := testkit.Start(t, testkit.Options{})
	other.Must(t, "load", "-q", "-i", archive)
	settles(t, other)
	if got := other.Must(t, "images", "-q", "--no-trunc", name); got != id {
		t.Errorf("loaded as %s, saved was %s", got, id)
	}
}

// deletedFiles are what an engine holds open of files that have no name any more, below its data root.
func deletedFiles(t *testing.T, e *testkit.Engine) (held []string) {
	t.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", e.PID()))
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, fd := range all {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, e.DataRoot) && strings.HasSuffix(to, "(deleted)") {
			held = append(held, to)
		}
	}
	return held
}
