package ship

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
	"github.com/gantry-engine/gantry/internal/testkit/lazyimage"
	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

// web is an application's image of eStargz layers in a registry.
type web struct {
	r      *registry.Registry
	name   string
	layers []lazyimage.Layer
	size   int64 // of the layers' blobs
}

const webFiles = 24

// lazyWeb makes one: busybox, and a web page among files of 24 MB that nobody needs.
func lazyWeb(t *testing.T, more ...imagemaker.Entry) *web {
	t.Helper()
	w := &web{r: registry.New(t)}
	w.name = w.r.Host + "/web:1"
	bb := busybox(t)
	bb.Layers[0] = append(bb.Layers[0], imagemaker.Dir("proc"))
	for _, l := range []imagemaker.Layer{bb.Layers[0], append(lazyimage.Web(webFiles, mega), more...)} {
		made, err := lazyimage.Make(l)
		if err != nil {
			t.Fatal(err)
		}
		w.layers = append(w.layers, made)
		w.size += made.Desc.Size
	}
	config := ocispec.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"httpd", "-f", "-p", "80", "-h", "/www"}}
	if _, err := lazyimage.Add(w.r, "web", "1", config, w.layers...); err != nil {
		t.Fatal(err)
	}
	return w
}

// slow makes the registry take its time, so that the background does not finish before the test looks.
func (w *web) slow() {
	w.r.Break(registry.Fault{Method: "GET", Path: "/blobs/" + string(w.layers[1].Desc.Digest), Delay: 250 * time.Millisecond})
}

// sent is how many bytes of layers the registry sent.
func (w *web) sent() (n int64) {
	for _, l := range w.layers {
		for _, q := range blobs(w.r, l.Desc.Digest.String()) {
			n += q.Bytes
		}
	}
	return n
}

// answers waits for a container's page.
func answers(t *testing.T, e *testkit.Engine, container string) {
	t.Helper()
	ip := e.Must(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)
	for range 1000 {
		resp, err := http.Get("http://" + ip + "/")
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if string(b) != "it works\n" {
				t.Fatalf("%s says %q", container, b)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not answer:\n%s", container, e.LogTail(4000))
}

// reads has a container read one of the files, and compares.
func reads(t *testing.T, e *testkit.Engine, container string, i int) {
	t.Helper()
	want := digest.FromString(lazyimage.Noise(i, mega)).Encoded()
	if got := e.Must(t, "exec", container, "sha256sum", fmt.Sprintf("/data/%03d", i)); !strings.HasPrefix(got, want) {
		t.Errorf("file %d: %s, want %s", i, got, want)
	}
}

// lazyProcess is the PID of the engine's gantry-lazy; 0 is none.
func lazyProcess(e *testkit.Engine) int {
	for pid, cmd := range e.Processes() {
		if strings.Contains(cmd, "gantry-lazy") {
			return pid
		}
	}
	return 0
}

func eventually(t *testing.T, e *testkit.Engine, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within a minute: %s\n%s", what, e.LogTail(4000))
}

// native tells whether both layers are unpacked and nothing names them as they were served.
func (w *web) native(e *testkit.Engine) bool {
	for _, l := range w.layers {
		if _, err := os.Stat(filepath.Join(e.DataRoot, "layers/layers", l.DiffID.Encoded(), "fs")); err != nil {
			return false
		}
	}
	left, _ := filepath.Glob(filepath.Join(e.DataRoot, "layers/layers/*.lazy"))
	kept, _ := filepath.Glob(filepath.Join(e.DataRoot, "lazy/*"))
	return len(left) == 0 && len(kept) == 0
}

func mounts(t *testing.T, e *testkit.Engine) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "fuse.gantry-lazy") && strings.Contains(line, e.ExecRoot) {
			n++
		}
	}
	return n
}

// A docker client runs an image that is not here: it answers with a part of its bytes, goes on through the deaths of all who
// serve it, becomes an ordinary image, and leaves nothing.
func TestLazyStart(t *testing.T) {
	e, w := testkit.Start(t, testkit.Options{Args: []string{"--lazy-pull"}}), lazyWeb(t)
	w.slow()
	id := e.Must(t, "run", "-d", w.name)
	answers(t, e, id)
	if n := w.sent(); n > w.size*30/100 {
		t.Errorf("at the first answer %d bytes of %d were sent", n, w.size)
	}
	if n := mounts(t, e); n != 2 {
		t.Errorf("%d layers are served, want 2", n)
	}
	reads(t, e, id, 3)
	if out := e.Must(t, "image", "inspect", "-f", "{{len .RootFS.Layers}} {{.Os}}", w.name); out != "2 linux" {
		t.Errorf("inspect: %s", out)
	}

	// gantry-lazy is killed while a read waits for it.
	read := make(chan string)
	go func() {
		out, errs, _ := e.Docker("exec", id, "sha256sum", "/data/005")
		read <- out + errs
	}()
	time.Sleep(100 * time.Millisecond)
	if err := syscall.Kill(lazyProcess(e), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := <-read; !strings.HasPrefix(got, digest.FromString(lazyimage.Noise(5, mega)).Encoded()) {
		t.Errorf("a read while gantry-lazy was killed: %s", got)
	}
	reads(t, e, id, 6)

	// gantryd is killed: the next one finds gantry-lazy, and takes care of it.
	e.Kill()
	was := lazyProcess(e)
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	reads(t, e, id, 7)
	if now := lazyProcess(e); now != was || was == 0 {
		t.Errorf("gantry-lazy was %d and is %d", was, now)
	}
	if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	reads(t, e, id, 8)

	// The background fetches the rest.
	w.r.Mend()
	eventually(t, e, "the layers are here", func() bool { return w.native(e) })
	if n := mounts(t, e); n != 0 {
		t.Errorf("%d mounts are left of layers that are here", n)
	}
	if n := w.sent(); n > w.size*110/100 {
		t.Errorf("%d bytes were sent of images of %d", n, w.size)
	}
	reads(t, e, id, 9) // of the mount that it began with
	if err := syscall.Kill(lazyProcess(e), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	reads(t, e, id, 10)
	e.Must(t, "restart", "-t", "0", id) // on the layers that are here
	answers(t, e, id)
	eventually(t, e, "gantry-lazy ends when nobody uses what it serves", func() bool { return lazyProcess(e) == 0 })
	reads(t, e, id, 11)
	save(t, e, w)
	e.Must(t, "rm", "-f", id)
	e.Must(t, "rmi", w.name)
	if left, _ := filepath.Glob(filepath.Join(e.DataRoot, "layers/layers/*")); len(left) != 0 {
		t.Errorf("layers are left: %v", left)
	}
}

// save gives the image away: it is as whole as any.
func save(t *testing.T, e *testkit.Engine, w *web) {
	t.Helper()
	file := filepath.Join(e.Dir, "saved.tar")
	e.Must(t, "save", "-o", file, w.name)
	b, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(b, []byte(w.layers[1].Desc.Digest.Encoded())) {
		t.Errorf("the archive lacks the layer: %v", err)
	}
}

// gantry pull --lazy does for one image what the daemon's option does for all; without either, and for other images, a pull is
// what it always was.
func TestLazyIsAskedFor(t *testing.T) {
	e, w := testkit.Start(t, testkit.Options{}), lazyWeb(t)
	e.Must(t, "pull", "-q", w.name)
	if mounts(t, e) != 0 || lazyProcess(e) != 0 {
		t.Error("an ordinary pull is lazy")
	}
	e.Must(t, "rmi", w.name)
	w.slow()
	if out, errs, code := e.Gantry("pull", "--lazy", w.name); code != 0 {
		t.Fatalf("gantry pull --lazy: %s%s", out, errs)
	}
	if n := mounts(t, e); n != 2 {
		t.Errorf("%d layers are served, want 2", n)
	}
	if out, errs, code := e.Docker("save", "-o", filepath.Join(e.Dir, "x.tar"), w.name); code == 0 || !strings.Contains(errs, "is not here yet") {
		t.Errorf("saving what is not here: %d %s%s", code, out, errs)
	}
	e.Must(t, "rmi", w.name)
	eventually(t, e, "gantry-lazy ends with the image", func() bool { return lazyProcess(e) == 0 && mounts(t, e) == 0 })
	if left, _ := filepath.Glob(filepath.Join(e.DataRoot, "lazy/*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}

	name, _ := addImage(w.r, "plain", layer("a", mega))
	if out, errs, code := e.Gantry("pull", "--lazy", name); code != 0 || mounts(t, e) != 0 {
		t.Errorf("an image without eStargz layers, lazily: %d %s%s", code, out, errs)
	}
	w.r.Mend()
	w.r.Break(registry.Fault{Method: "GET", Path: "/blobs/", NoRange: true})
	if out, errs, code := e.Gantry("pull", "--lazy", w.name); code != 0 || mounts(t, e) != 0 {
		t.Errorf("from a registry that gives no parts: %d %s%s", code, out, errs)
	}
	if !strings.Contains(e.LogTail(8000), "does not follow Range") {
		t.Error("why it was not lazy stands nowhere")
	}
	e.Must(t, "run", "--rm", w.name, "cat", "/www/index.html")
}

// The engine is stopped, or the machine restarted, in the middle: what is here is not fetched again.
func TestLazyAfterRestart(t *testing.T) {
	e, w := testkit.Start(t, testkit.Options{Args: []string{"--lazy-pull"}}), lazyWeb(t)
	w.slow()
	id := e.Must(t, "create", w.name, "sleep", "1000")
	e.Must(t, "start", id)
	reads(t, e, id, 4)
	e.Must(t, "kill", id)
	before := w.sent()
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	if mounts(t, e) != 0 || lazyProcess(e) != 0 {
		t.Error("an engine that stopped without containers leaves a mount or a process")
	}
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	e.Must(t, "start", id)
	reads(t, e, id, 4)
	w.r.Mend()
	eventually(t, e, "the layers are here", func() bool { return w.native(e) })
	if n := w.sent(); n > w.size*110/100 {
		t.Errorf("%d bytes were sent of layers of %d; %d before the restart", n, w.size, before)
	}
}

// An image whose configuration does not fit its layers is found out when they are here, and that is told.
func TestLazyImageThatLies(t *testing.T) {
	e, w := testkit.Start(t, testkit.Options{Args: []string{"--lazy-pull"}}), lazyWeb(t)
	lie := w.layers[1]
	lie.DiffID = digest.FromString("another one")
	if _, err := lazyimage.Add(w.r, "lie", "1", ocispec.ImageConfig{Cmd: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"}}, w.layers[0], lie); err != nil {
		t.Fatal(err)
	}
	begin := strconv.FormatInt(time.Now().Unix()-1, 10)
	id := e.Must(t, "run", "-d", w.r.Host+"/lie:1")
	eventually(t, e, "it is told", func() bool {
		out := e.Must(t, "events", "--since", begin, "--until", strconv.FormatInt(time.Now().Unix(), 10), "--filter", "event=lazy-error")
		return strings.Contains(out, "/lie:1") && strings.Contains(out, "another digest")
	})
	if !strings.Contains(e.LogTail(8000), "another digest") {
		t.Error("the log does not say so")
	}
	e.Must(t, "rm", "-f", id)
	e.Must(t, "rmi", w.r.Host+"/lie:1")
	eventually(t, e, "nothing is left", func() bool { return lazyProcess(e) == 0 && mounts(t, e) == 0 })
}

// An ordinary image is converted, pushed, and started lazily where it is not.
func TestConvert(t *testing.T) {
	e, r := engine(t), registry.New(t)
	made := e.Must(t, "create", "bb", "true")
	file := filepath.Join(e.Dir, "page")
	if err := os.WriteFile(file, []byte("it works\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	e.Must(t, "cp", file, made+":/page")
	e.Must(t, "commit", "-c", `CMD ["cat","/page"]`, made, "app:1")
	first := filepath.Join(e.Dir, "first")
	if err := os.WriteFile(first, []byte("# what a start needs\n/bin/busybox\n/no/such\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := r.Host + "/app:lazy"
	out, errs, code := e.Gantry("image", "convert", "--estargz", "--level", "1", "--prioritize", first, "app:1", name)
	if code != 0 || strings.TrimSpace(out) != name || !strings.Contains(errs, "/no/such is in no layer") && !strings.Contains(errs, "no/such is in no layer") {
		t.Fatalf("convert: %d %s%s", code, out, errs)
	}
	if got := e.Must(t, "run", "--rm", name); got != "it works" {
		t.Errorf("the converted image says %q", got)
	}
	e.Must(t, "push", "-q", name)
	other := testkit.Start(t, testkit.Options{Args: []string{"--lazy-pull"}})
	r.Break(registry.Fault{Method: "GET", Path: "/blobs/", Delay: 50 * time.Millisecond})
	if got := other.Must(t, "run", "--rm", name); got != "it works" {
		t.Errorf("the converted image, lazily, says %q", got)
	}
	if !strings.Contains(other.Must(t, "info", "-f", "{{.Driver}}"), "overlay") {
		t.Error("the other engine has no overlayfs")
	}
	if lazyProcess(other) == 0 {
		t.Errorf("it was not lazy:\n%s", other.LogTail(3000))
	}
	for _, bad := range [][]string{{"app:1", "x:1"}, {"--estargz", "--level", "12", "app:1", "x:1"}, {"--estargz", "no:such", "x:1"}, {"--estargz", "--chunk-size", "1", "app:1", "x:1"}} {
		if out, errs, code := e.Gantry(append([]string{"image", "convert"}, bad...)...); code == 0 || errs == "" {
			t.Errorf("convert %v: %d %s%s", bad, code, out, errs)
		}
	}
}
