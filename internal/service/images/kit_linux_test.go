package images_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/driver/content"
	"github.com/gantry-engine/gantry/internal/driver/layers"
	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/service/images/recall"
	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type house struct {
	*images.Service
	content *content.Store
	layers  *layers.Store
	recall  images.Recall
	dir     string
	events  []string
	uses    []images.ContainerUse
	commit  func(fn func(context.Context, images.Committable) error) error
}

func (h *house) Publish(m events.Message) {
	h.events = append(h.events, string(m.Action)+" "+m.Actor.Attributes["name"])
}
func (h *house) Uses(context.Context) []images.ContainerUse { return h.uses }
func (h *house) Snapshot(ctx context.Context, _ string, _ bool, fn func(context.Context, images.Committable) error) error {
	return h.commit(fn)
}

// open opens a store below dir; closing is the test's end.
func open(t testing.TB, dir, driver string) *house {
	t.Helper()
	ctx := t.Context()
	c, err := content.Open(ctx, filepath.Join(dir, "content"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := layers.Open(ctx, filepath.Join(dir, "layers"), layers.Options{Driver: driver})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{content: c, layers: l, dir: dir}
	c.MakeBy(recall.NewMaker(l, c, nil))
	h.recall = images.Recall{Layers: l, Shelf: c, Dropper: recall.NewDropper(l, c, c.Blobs(), slog.New(slog.DiscardHandler))}
	t.Cleanup(func() {
		h.recall.Dropper.Close()
		_ = l.Close()
		_ = c.Close()
	})
	h.Service, err = images.New(ctx, images.Deps{Content: c, Layers: l, Recall: h.recall, Disk: scale{h}, Events: h})
	if err != nil {
		t.Fatal(err)
	}
	h.SetContainers(h)
	return h
}

func pack(t testing.TB, a imagemaker.Archive) ([]byte, []imagemaker.Made) {
	t.Helper()
	var b bytes.Buffer
	made, err := imagemaker.Write(&b, a)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), made
}

// files counts what lies below dir.
func files(t testing.TB, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(string, os.DirEntry, error) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var small = imagemaker.Image{
	Names: []string{"small:1"},
	Layers: []imagemaker.Layer{
		{imagemaker.Dir("etc"), imagemaker.File("etc/a", "one"), imagemaker.File("etc/b", "two"), imagemaker.Dir("tmp").Mode(0o1777)},
		{imagemaker.Dir("etc"), imagemaker.Whiteout("/etc/a"), imagemaker.File("etc/c", "three")},
		{imagemaker.Dir("srv"), imagemaker.File("srv/x", "x").Owner(1<<21+5, 7)},
	},
}
