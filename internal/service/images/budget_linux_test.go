package images_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// scale says what the data root takes: as much for each image.
type scale struct{ h *house }

func (s scale) Measure(ctx context.Context) (spec.DiskUse, error) {
	list, err := s.h.List(ctx, images.ListOptions{})
	n := int64(len(list))
	return spec.DiskUse{Total: n*1000 + 500, Parts: []spec.DiskPart{{Where: "layers/layers", Bytes: n * 1000}, {Where: "layers/trash", Bytes: 500}}}, err
}

// The budget takes images that nobody uses until the data root fits, and no more.
func TestBudget(t *testing.T) {
	h := open(t, t.TempDir(), "overlay")
	for _, n := range []string{"a:1", "b:1", "c:1", "d:1"} {
		b, _ := pack(t, imagemaker.Archive{Images: []imagemaker.Image{small.Named(n).Add(imagemaker.Layer{imagemaker.File("of", n)})}})
		if err := h.Load(t.Context(), bytes.NewReader(b), nil, images.Progress{}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := h.Resolve(t.Context(), "a:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	h.uses = []images.ContainerUse{{ID: "x", Image: a.ID, Name: "a:1"}}
	left := func() (n int) {
		list, err := h.List(t.Context(), images.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	for _, c := range []struct {
		limit int64
		ahead time.Duration
		want  int
		told  bool
	}{
		{5000, time.Hour, 4, false},  // they fit
		{3200, time.Minute, 4, true}, // they were all just used
		{3200, time.Hour, 3, false},  // one is enough
		{0, 1000 * time.Hour, 3, false},
		{100, time.Hour, 1, true}, // what a container uses stays
	} {
		h.SetBudgetForTest(c.limit)
		if err := h.EnforceForTest(t.Context(), time.Now().Add(c.ahead)); (err != nil) != c.told {
			t.Errorf("limit %d: %v", c.limit, err)
		}
		if n := left(); n != c.want {
			t.Errorf("limit %d, %v later: %d images are left, want %d", c.limit, c.ahead, n, c.want)
		}
	}
	if _, err := h.Resolve(t.Context(), "a:1", nil); err != nil {
		t.Error(err)
	}
}
