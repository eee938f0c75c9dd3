package movein

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/dockerroot"
)

// fakeEngine takes archives in, and refuses those that lack a layer which it does not have.
type fakeEngine struct {
	t        *testing.T
	has      map[string]bool
	archives [][]string // names of the files in each
	full     bool       // answers at once that the disk is full
}

func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.56")
	if r.URL.Path == "/_ping" {
		return
	}
	if !strings.HasSuffix(r.URL.Path, "/images/load") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"no such thing"}`)
		return
	}
	refuse := func(status int, text string) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"message":%q}`, text)
	}
	if e.full {
		refuse(http.StatusInternalServerError, "no space left")
		return
	}
	var names []string
	var manifest struct {
		Layers []struct{ Digest digest.Digest }
	}
	here := map[string]bool{}
	tr := tar.NewReader(r.Body)
	for {
		h, err := tr.Next()
		if err != nil {
			if err != io.EOF {
				refuse(http.StatusBadRequest, "the archive is truncated")
				return
			}
			break
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			refuse(http.StatusBadRequest, "the archive is truncated")
			return
		}
		names = append(names, h.Name)
		here[h.Name] = true
		if strings.Contains(string(b), dockerManifest) && h.Name != "index.json" {
			if err := json.Unmarshal(b, &manifest); err != nil {
				e.t.Error(err)
			}
		}
	}
	e.archives = append(e.archives, names)
	for _, l := range manifest.Layers {
		if !here[path(l.Digest)] && !e.has[path(l.Digest)] {
			refuse(http.StatusBadRequest, "a layer is missing in the archive")
			return
		}
	}
	_, _ = io.WriteString(w, `{"stream":"Loaded image: x\n"}`)
}

func client(t *testing.T, e http.Handler, host string) *api.Client {
	t.Helper()
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	return api.New(api.Config{Host: host, Program: "gantry", Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.Listener.Addr().String())
	}})
}

func layer(content string) blob {
	return blob{digest.FromString(content), int64(len(content)), func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}}
}

func mover(t *testing.T, e http.Handler) *images {
	t.Helper()
	return &images{job: &job{engine: client(t, e, "unix:///x"), progress: func(string, string, int64, int64) {}}, sent: map[digest.Digest]bool{}}
}

// A layer goes to the engine once, unless the engine has lost it since.
func TestLayersGoOnce(t *testing.T) {
	e := &fakeEngine{t: t, has: map[string]bool{}}
	m := mover(t, e)
	base, top, other := layer("base"), layer("top"), layer("other")
	for i, layers := range [][]blob{{base, top, top}, {base, other}} {
		a, err := newArchive([]byte(fmt.Sprintf(`{"n":%d}`, i)), layers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			e.has[path(base.digest)] = true
		}
		if n, err := m.load(t.Context(), a, "x"); err != nil || n != []int64{7, 5}[i] {
			t.Fatalf("image %d: %d bytes, %v", i, n, err)
		}
	}
	if got := len(e.archives[0]) + len(e.archives[1]); got != 6+5 {
		t.Errorf("the archives have %v", e.archives)
	}
	e.has = nil
	a, err := newArchive([]byte("{}"), []blob{base, layer("third")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.load(t.Context(), a, "x"); err != nil || n != 9 || len(e.archives) != 4 || len(e.archives[3]) != 6 {
		t.Errorf("after the engine lost a layer: %d bytes, %v, %v", n, err, e.archives)
	}
}

// What goes wrong here is told, not what the engine makes of it; what the engine refuses is told in its words.
func TestLoadFails(t *testing.T) {
	e := &fakeEngine{t: t, has: map[string]bool{}}
	m := mover(t, e)
	broken := layer("some content")
	broken.write = func(_ context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "some")
		return errors.New("the file was changed")
	}
	a, err := newArchive([]byte("{}"), []blob{broken}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.load(t.Context(), a, "x"); err == nil || err.Error() != "the file was changed" {
		t.Errorf("a layer that cannot be read: %v", err)
	}
	if m.sent[broken.digest] {
		t.Error("a layer that did not go counts as gone")
	}
	e.full = true
	if a, err = newArchive([]byte("{}"), []blob{layer(strings.Repeat("x", 1<<20))}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := m.load(t.Context(), a, "x"); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("an engine that refuses: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the user's wish"))
	if _, err := m.load(ctx, a, "x"); err == nil {
		t.Error("a cancelled load succeeded")
	}
}

// Contents of volumes do not go to another machine.
func TestVolumesStayOnTheMachine(t *testing.T) {
	e := &fakeEngine{t: t}
	m := &volumes{&job{engine: client(t, e, "tcp://far:2375")}}
	if i := m.take(t.Context(), dockerroot.Volume{Name: "v", Driver: "local", Data: t.TempDir()}); i.Result != Failed || !strings.Contains(i.Note, "is not on this machine") {
		t.Errorf("%+v", i)
	}
	if i := m.take(t.Context(), dockerroot.Volume{Name: "v", Driver: "plug"}); i.Result != LeftOut || !strings.Contains(i.Note, "plug") {
		t.Errorf("%+v", i)
	}
}

func TestReport(t *testing.T) {
	j := &job{o: Options{StopOnError: true}}
	for _, c := range []struct {
		item Item
		want error
	}{{Item{Result: Taken}, nil}, {Item{Result: LeftOut}, nil}, {Item{Result: Conflict}, errStop}, {failed("image", "x", errors.New("why")), errStop}} {
		if err := j.add(t.Context(), c.item); err != c.want {
			t.Errorf("%s: %v", c.item.Result, err)
		}
	}
	if len(j.report) != 4 || j.report.Bad() != 2 || !j.report.has("image", "x", Failed) {
		t.Errorf("%+v", j.report)
	}
}
