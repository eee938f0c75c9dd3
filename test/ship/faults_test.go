package ship

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

const mega = 1 << 20

// layer is a tar with one file that does not compress.
func layer(name string, size int) []byte {
	data := make([]byte, size)
	src := rand.NewChaCha8([32]byte{byte(len(name)), byte(size)})
	_, _ = src.Read(data)
	return tarOf(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(size)}, data)
}

func tarOf(h *tar.Header, data []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(h)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

// addImage stores an image of layers, and gives its name and the layers' digests.
func addImage(r *registry.Registry, repo string, layers ...[]byte) (name string, digests []string) {
	return addImageBy(r, repo, nil, layers...)
}

// addImageBy is addImage with layers that compress compresses.
func addImageBy(r *registry.Registry, repo string, compress func([]byte) []byte, layers ...[]byte) (name string, digests []string) {
	d := r.AddImage(repo, "1", registry.Image{Layers: layers, Compress: compress})
	_, body, _ := r.Manifest(repo, d.Digest.String())
	for _, part := range strings.Split(string(body), `"digest":"`)[2:] { // the first one is the configuration's
		digests = append(digests, part[:71])
	}
	return r.Host + "/" + repo + ":1", digests
}

// inspects is an image with layers that is here.
func inspects(t *testing.T, e *testkit.Engine, name string, layers int) {
	t.Helper()
	if got := e.Must(t, "image", "inspect", "-f", "{{len .RootFS.Layers}}", name); got != fmt.Sprint(layers) {
		t.Errorf("%s has %s layers, want %d", name, got, layers)
	}
}

// blobs are the requests for a blob.
func blobs(r *registry.Registry, digest string) []registry.Request {
	return r.Requests("GET", "/blobs/"+digest)
}

// arrived waits until so many bytes of a blob are on the engine's disk.
func arrived(t *testing.T, e *testkit.Engine, digest string, n int64) {
	t.Helper()
	for range 1000 {
		found, _ := filepath.Glob(filepath.Join(e.DataRoot, "content/incoming/*", strings.TrimPrefix(digest, "sha256:")))
		if len(found) == 1 {
			if st, err := os.Stat(found[0]); err == nil && st.Size() >= n {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("of %s not %d bytes came in", digest, n)
}

// pulls begins a pull with the official client; stop ends the client.
func pulls(t *testing.T, e *testkit.Engine, name string) (stop func() error) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), "docker", "pull", name)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.Socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() error {
		_ = cmd.Process.Kill()
		return cmd.Wait()
	}
}

// A pull that is cut short, by its client or by a kill of the engine, goes on where it was: no byte is fetched twice.
func TestPullGoesOn(t *testing.T) {
	for _, how := range []string{"client gone", "engine killed", "connection cut"} {
		t.Run(how, func(t *testing.T) {
			e, r := engine(t), registry.New(t)
			name, d := addImage(r, "app", layer("a", 3*mega), layer("b", mega))
			switch how {
			case "connection cut":
				r.Break(registry.Fault{Method: "GET", Path: "/blobs/" + d[0], Cut: mega, Times: 1}, registry.Fault{Method: "GET", Path: "/blobs/" + d[0], Cut: mega / 2, Times: 1})
			default:
				r.Break(registry.Fault{Method: "GET", Path: "/blobs/" + d[0], Cut: mega, Hang: true, Times: 1})
				stop := pulls(t, e, name)
				arrived(t, e, d[0], mega)
				arrived(t, e, d[1], mega)
				if how == "client gone" {
					_ = stop()
				} else {
					e.Kill()
					_ = stop()
					if err := e.Run(); err != nil {
						t.Fatal(err)
					}
				}
				if out := e.Must(t, "images", "-q", r.Host+"/app"); out != "" {
					t.Errorf("half an image is listed: %s", out)
				}
			}
			e.Must(t, "pull", "-q", name)
			inspects(t, e, name, 2)
			for i := range d {
				if at := registry.Twice(blobs(r, d[i])); at >= 0 {
					t.Errorf("byte %d of layer %d was fetched twice: %+v", at, i, blobs(r, d[i]))
				}
			}
			if n := len(blobs(r, d[0])); n < 2 {
				t.Errorf("the first layer came with %d requests: nothing was cut short", n)
			}
		})
	}
}

// Whoever wants what is on its way takes part in it.
func TestPullsAtOnceShareTheWork(t *testing.T) {
	e, r := engine(t), registry.New(t)
	shared := layer("shared", 2*mega)
	one, d := addImage(r, "one", shared, layer("one", mega))
	two, _ := addImage(r, "two", shared, layer("two!", mega))
	r.Break(registry.Fault{Method: "GET", Path: "/blobs/" + d[0], Delay: 300 * time.Millisecond})
	var wg sync.WaitGroup
	for _, name := range []string{one, two, one, two} {
		wg.Go(func() {
			if out, errs, code := e.Docker("pull", "-q", name); code != 0 {
				t.Errorf("pull %s: %s%s", name, out, errs)
			}
		})
	}
	wg.Wait()
	if n := len(blobs(r, d[0])); n != 1 {
		t.Errorf("the shared layer was fetched %d times", n)
	}
	inspects(t, e, one, 2)
	inspects(t, e, two, 2)
}

// One who leaves does not stop the others.
func TestOneOfTwoLeaves(t *testing.T) {
	e, r := engine(t), registry.New(t)
	name, d := addImage(r, "app", layer("a", 2*mega))
	r.Break(registry.Fault{Method: "GET", Path: "/blobs/" + d[0], Cut: mega, Hang: true, Times: 1})
	first := pulls(t, e, name)
	arrived(t, e, d[0], mega)
	done := make(chan string, 1)
	go func() {
		out, errs, _ := e.Docker("pull", name)
		done <- out + errs
	}()
	for len(r.Requests("HEAD", "/manifests/1")) < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	_ = first()
	r.Mend() // the transfer that hangs goes on as soon as it is taken up again
	e.Must(t, "version")
	second := pulls(t, e, name)
	defer func() { _ = second() }()
	r.CloseConnections()
	if out := <-done; !strings.Contains(out, "Downloaded newer image") {
		t.Errorf("the second pull says %s", out)
	}
	if at := registry.Twice(blobs(r, d[0])); at >= 0 {
		t.Errorf("byte %d was fetched twice", at)
	}
}

// A registry that lies or breaks: a clear error, nothing left, and the next good pull works.
func TestBadRegistry(t *testing.T) {
	big := strings.Repeat("x", 5*mega)
	for what, c := range map[string]struct {
		fault registry.Fault
		want  string
	}{
		"wrong bytes":         {registry.Fault{Method: "GET", Path: "/blobs/LAYER", Wrong: true}, "verification failed"},
		"wrong configuration": {registry.Fault{Method: "GET", Path: "/blobs/CONFIG", Wrong: true}, "digest mismatch"},
		"wrong manifest":      {registry.Fault{Method: "GET", Path: "/manifests/sha256", Wrong: true}, "digest mismatch"},
		"cut each time":       {registry.Fault{Method: "GET", Path: "/blobs/LAYER", Cut: -1}, "broke off"},
		"too many bytes":      {registry.Fault{Method: "GET", Path: "/blobs/LAYER", More: 10}, "size is"},
		"in circles":          {registry.Fault{Method: "GET", Path: "/blobs/LAYER", Redirect: true}, "redirects again and again"},
		"out of order":        {registry.Fault{Method: "GET", Path: "/blobs/LAYER", Status: 500, Body: "no"}, "500"},
		"no longer there":     {registry.Fault{Method: "GET", Path: "/blobs/LAYER", Status: 404, Body: "no"}, "does not have"},
		"asks for nothing":    {registry.Fault{Path: "/manifests/", Status: 401, Header: map[string]string{"Www-Authenticate": `Basic realm="x"`}}, "pull access denied"},
		"huge manifest":       {registry.Fault{Path: "/manifests/", Status: 200, Body: big, Header: map[string]string{"Content-Type": ocispec.MediaTypeImageManifest}}, "more than"},
		"schema 1":            {registry.Fault{Path: "/manifests/", Status: 200, Body: "{}", Header: map[string]string{"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}}, "schema 1"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e, r := engine(t, "--max-download-attempts", "2"), registry.New(t)
			name, d := addImage(r, "app", layer("a", mega))
			_, head, _ := r.Manifest("app", "1")
			config := strings.Split(string(head), `"digest":"`)[1][:71]
			c.fault.Path = strings.NewReplacer("LAYER", d[0], "CONFIG", config).Replace(c.fault.Path)
			r.Break(c.fault)
			fails(t, e, c.want, "pull", name)
			if out := e.Must(t, "images", "-aq", r.Host+"/app"); out != "" {
				t.Errorf("an image is listed: %s", out)
			}
			tmp, _ := filepath.Glob(filepath.Join(e.DataRoot, "layers/tmp/*"))
			if len(tmp) > 0 {
				t.Errorf("half a layer is left: %v", tmp)
			}
			r.Mend()
			e.Must(t, "pull", "-q", name)
			inspects(t, e, name, 1)
		})
	}
}

// An archive that reaches out of its folder, or an image that is none, is refused.
func TestBadImages(t *testing.T) {
	e, r := engine(t), registry.New(t)
	for what, c := range map[string]struct {
		header tar.Header
		want   string
	}{
		"climbs":         {tar.Header{Typeflag: tar.TypeReg, Name: "../../evil", Mode: 0o644}, ".."},
		"links out":      {tar.Header{Typeflag: tar.TypeLink, Name: "x", Linkname: "../../../etc/passwd"}, ".."},
		"links nowhere":  {tar.Header{Typeflag: tar.TypeLink, Name: "x", Linkname: "nothing"}, "hard link"},
		"unknown a type": {tar.Header{Typeflag: 'Z', Name: "x"}, "x"},
	} {
		name, _ := addImage(r, "bad"+strings.ReplaceAll(what, " ", ""), tarOf(&c.header, nil))
		if out, errs, code := e.Docker("pull", name); code != 1 || !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: exit %d, %s%s", what, code, out, errs)
		}
	}
	many := make([][]byte, 1200)
	for i := range many {
		many[i] = tarOf(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprint("d", i), Mode: 0o755}, nil)
	}
	name, _ := addImage(r, "many", many...)
	fails(t, e, "1200 layers, more than 1024", "pull", name)
	if out := e.Must(t, "images", "-aq", "--filter", "reference="+r.Host+"/*"); out != "" {
		t.Errorf("images are listed: %s", out)
	}
}

// A push that breaks off goes on where it was.
func TestPushGoesOn(t *testing.T) {
	e, r := engine(t), registry.New(t)
	from, d := addImage(r, "from", layer("a", 3*mega))
	e.Must(t, "pull", "-q", from)
	to := registry.New(t)
	name := to.Host + "/to:1"
	e.Must(t, "tag", from, name)
	to.Break(registry.Fault{Method: "PATCH", Path: "/to/", Cut: mega, Times: 2})
	e.Must(t, "push", "-q", name)
	b, ok := to.Blob("to", digest.Digest(d[0]))
	if want, _ := r.Blob("from", digest.Digest(d[0])); !ok || !bytes.Equal(b, want) {
		t.Errorf("the layer that arrived is another one: %v, %d bytes", ok, len(b))
	}
	sessions := map[string][]registry.Request{}
	for _, q := range to.Requests("PATCH", "/to/") {
		sessions[q.Path] = append(sessions[q.Path], q)
	}
	for path, s := range sessions {
		if at := registry.Twice(s); at >= 0 {
			t.Errorf("byte %d was sent twice to %s: %+v", at, path, s)
		}
	}
	if n := len(to.Requests("POST", "/to/")); n != 2 {
		t.Errorf("%d uploads were begun, want one for the layer and one for the configuration", n)
	}
}

// Disk full: the pull says how much was to come and leaves the room to others; what runs goes on, and a smaller image comes.
func TestPullOntoAFullDisk(t *testing.T) {
	dir := t.TempDir()
	disk, data := filepath.Join(dir, "disk"), filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "truncate", "-s", "48M", disk)
	run(t, "mkfs.ext4", "-q", "-F", disk)
	run(t, "mount", "-o", "loop", disk, data)
	t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) })
	var st, up syscall.Stat_t
	if syscall.Stat(data, &st) != nil || syscall.Stat(dir, &up) != nil || st.Dev == up.Dev {
		t.Fatal("the loop mount does not hold: writing here would fill the real disk")
	}
	e := engine(t, "--data-root", data)
	r := registry.New(t)
	e.Must(t, "run", "-d", "--name", "writer", "bb", "sh", "-c", "while :; do echo line >> /out; sleep 0.05; done")
	free := func() uint64 {
		var s syscall.Statfs_t
		if err := syscall.Statfs(data, &s); err != nil {
			t.Fatal(err)
		}
		return s.Bfree * uint64(s.Bsize)
	}
	before := free()
	big, _ := addImage(r, "big", layer("a", 20*mega), layer("bb", 20*mega), layer("ccc", 20*mega))
	fails(t, e, "of them still to come", "pull", big)
	for i := 0; free()+4*mega < before; i++ {
		if i == 100 {
			t.Fatalf("%d bytes were free before the pull, now %d", before, free())
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := e.Must(t, "inspect", "-f", "{{.State.Running}}", "writer"); got != "true" {
		t.Errorf("the container that ran: running is %s", got)
	}
	lines := e.Must(t, "exec", "writer", "wc", "-l", "/out")
	for i := 0; e.Must(t, "exec", "writer", "wc", "-l", "/out") == lines; i++ {
		if i == 100 {
			t.Fatal("the container that ran writes no more")
		}
		time.Sleep(20 * time.Millisecond)
	}
	small, _ := addImage(r, "small", layer("a", mega))
	e.Must(t, "pull", "-q", small)
	inspects(t, e, small, 1)
	e.Must(t, "rm", "-f", "writer")
}
