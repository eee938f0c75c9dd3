package images_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

func load(t testing.TB, h *house, a imagemaker.Archive) []imagemaker.Made {
	t.Helper()
	b, made := pack(t, a)
	if err := h.Load(t.Context(), bytes.NewReader(b), nil, images.Progress{}); err != nil {
		t.Fatal(err)
	}
	return made
}

func names(list []image.Summary) (out []string) {
	for _, i := range list {
		out = append(out, strings.Join(i.RepoTags, "+"))
	}
	return out
}

func TestListFilters(t *testing.T) {
	h := open(t, t.TempDir(), "overlay")
	at := func(name string, hours int, labels map[string]string) imagemaker.Image {
		return imagemaker.Image{Names: []string{name}, Created: imagemaker.Epoch.Add(time.Duration(hours) * time.Hour), Layers: small.Layers,
			Config: dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Labels: labels}}}
	}
	nameless := at("", 4, nil)
	nameless.Names = nil
	load(t, h, imagemaker.Archive{Images: []imagemaker.Image{at("a:1", 1, map[string]string{"k": "v"}), at("b:1", 2, nil), at("reg.example:5000/x/c:2", 3, nil), nameless}})
	for filter, want := range map[string]string{
		``:                                "|reg.example:5000/x/c:2|b:1|a:1",
		`{"dangling":["true"]}`:           "",
		`{"dangling":["false"]}`:          "reg.example:5000/x/c:2|b:1|a:1",
		`{"label":["k=v"]}`:               "a:1",
		`{"label!":["k"]}`:                "|reg.example:5000/x/c:2|b:1",
		`{"before":["b:1"]}`:              "a:1",
		`{"since":["b:1"]}`:               "|reg.example:5000/x/c:2",
		`{"reference":["a"]}`:             "a:1",
		`{"reference":["*:1"]}`:           "b:1|a:1",
		`{"reference":["*/*/c"]}`:         "reg.example:5000/x/c:2",
		`{"until":["2024-01-02T04:30Z"]}`: "a:1",
	} {
		if strings.Contains(filter, "until") {
			filter = `{"until":["2024-01-02T04:30:00Z"]}`
		}
		a, err := filters.Parse(filter)
		if err != nil {
			t.Fatal(err)
		}
		list, err := h.List(t.Context(), images.ListOptions{Filters: a, SharedSize: true, Manifests: true})
		if err != nil {
			t.Errorf("%s: %v", filter, err)
		}
		if got := strings.Join(names(list), "|"); got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
		for _, i := range list {
			if i.SharedSize != 12 || i.Size <= i.SharedSize || len(i.Manifests) != 1 || !i.Manifests[0].Available {
				t.Errorf("%s: %+v", filter, i)
			}
		}
	}
	for _, bad := range []string{`{"nosuch":["x"]}`, `{"dangling":["maybe"]}`, `{"until":["soon"]}`, `{"reference":["["]}`} {
		a, _ := filters.Parse(bad)
		if _, err := h.List(t.Context(), images.ListOptions{Filters: a}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := h.Resolve(t.Context(), "a@sha256:"+strings.Repeat("0", 64), nil); !errdefs.IsNotFound(err) {
		t.Errorf("unknown digest: %v", err)
	}
}

func TestPlatforms(t *testing.T) {
	h := open(t, t.TempDir(), "overlay")
	other := small
	other.Platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
	made := load(t, h, imagemaker.Archive{Images: []imagemaker.Image{small, other}, OCI: true, Index: true})
	img, err := h.Resolve(t.Context(), "small:1", nil)
	if err != nil || img.Manifest != made[0].Manifest.Digest || img.ID == img.Manifest {
		t.Fatalf("the host's platform: %+v %v", img, err)
	}
	if img, err = h.Resolve(t.Context(), "small:1", &other.Platform); err != nil || img.Manifest != made[1].Manifest.Digest {
		t.Errorf("another platform: %+v %v", img, err)
	}
	_, err = h.Resolve(t.Context(), "small:1", &ocispec.Platform{OS: "linux", Architecture: "riscv64"})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "does not provide the specified platform (linux/riscv64)") {
		t.Errorf("a platform that is not there: %v", err)
	}
	i, err := h.Inspect(t.Context(), "small:1", nil, true)
	if err != nil || len(i.Manifests) != 2 || i.Architecture == "s390x" {
		t.Errorf("inspect: %+v %v", i, err)
	}
	// One platform saved and loaded again.
	write, err := h.Save(t.Context(), []string{"small:1"}, []ocispec.Platform{other.Platform})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	h2 := open(t, t.TempDir(), "overlay")
	if err := h2.Load(t.Context(), &b, nil, images.Progress{}); err != nil {
		t.Fatal(err)
	}
	if img, err = h2.Resolve(t.Context(), "small:1", nil); err != nil || img.ID != made[1].Manifest.Digest {
		t.Errorf("one platform, saved and loaded: %+v %v", img, err)
	}
}

func TestTagAndDelete(t *testing.T) {
	h := open(t, t.TempDir(), "overlay")
	load(t, h, imagemaker.Archive{Images: []imagemaker.Image{small}})
	ctx := t.Context()
	img, err := h.Resolve(ctx, "small:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	id, sid := img.ID.String(), img.ID.Encoded()[:12]
	if err := h.Tag(ctx, "small:1", "other", ""); err != nil {
		t.Fatal(err)
	}
	if err := h.Tag(ctx, "small:1", "Bad", ""); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad name: %v", err)
	}
	cid := strings.Repeat("c", 64)
	refuse := func(ref string, force bool, text string) {
		t.Helper()
		_, err := h.Delete(ctx, ref, images.DeleteOptions{Force: force})
		if !errdefs.IsConflict(err) || err.Error() != text {
			t.Errorf("delete %s: %v\nwant %s", ref, err, text)
		}
	}
	refuse(id, false, "conflict: unable to delete "+sid+" (must be forced) - image is referenced in multiple repositories")
	out, err := h.Delete(ctx, "other", images.DeleteOptions{})
	if err != nil || len(out) != 1 || out[0].Untagged != "other:latest" {
		t.Errorf("untag: %v %v", out, err)
	}
	h.uses = []images.ContainerUse{{ID: cid, Image: img.ID, Name: "small:1"}}
	refuse("small:1", false, `conflict: unable to remove repository reference "small:1" (must force) - container cccccccccccc is using its referenced image `+sid)
	refuse(sid, false, "conflict: unable to delete "+sid+" (must be forced) - image is being used by stopped container cccccccccccc")
	h.uses[0].Running = true
	refuse(sid, true, "conflict: unable to delete "+sid+" (cannot be forced) - image is being used by running container cccccccccccc")
	out, err = h.Delete(ctx, "small:1", images.DeleteOptions{Force: true})
	if err != nil || len(out) != 1 || out[0].Untagged != "small:1" || !h.Exists(ctx, id) {
		t.Errorf("forced while running: %v %v", out, err)
	}
	if r, err := h.Prune(ctx, nil); err != nil || len(r.ImagesDeleted) != 0 {
		t.Errorf("pruned what runs: %v %v", r, err)
	}
	h.uses = nil
	r, err := h.Prune(ctx, nil)
	if err != nil || len(r.ImagesDeleted) != 1 || r.ImagesDeleted[0].Deleted != id || r.SpaceReclaimed == 0 {
		t.Errorf("prune: %+v %v", r, err)
	}
	if n := blobFiles(t, h); n != 0 {
		t.Errorf("%d blobs left", n)
	}
	if left, _ := os.ReadDir(filepath.Join(h.dir, "layers", "layers")); len(left) != 0 {
		t.Errorf("layers left: %v", left)
	}
	if _, err := h.Delete(ctx, "small:1", images.DeleteOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("delete again: %v", err)
	}
	if want := []string{"load " + id, "tag other:latest", "untag " + id, "untag " + id, "delete " + id}; !slices.Equal(h.events[:5], want) {
		t.Errorf("events %v, want %v", h.events, want)
	}
}

func blobFiles(t testing.TB, h *house) int {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(h.dir, "content/blobs/sha256/*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestSaveAndLoadKeepsIDsAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir, "overlay")
	second := small.Named("second:2", "alias:3").Add(imagemaker.Layer{imagemaker.File("more", "more")})
	load(t, h, imagemaker.Archive{Images: []imagemaker.Image{small, second}, OCI: true, Layers: "zstd"})
	want, err := h.Resolve(t.Context(), "second:2", nil)
	if err != nil {
		t.Fatal(err)
	}
	write, err := h.Save(t.Context(), []string{"small:1", "second:2", "alias:3", want.ID.String()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	h2 := open(t, t.TempDir(), "copy")
	if err := h2.Load(t.Context(), &b, nil, images.Progress{}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"second:2", "alias:3"} {
		if got, err := h2.Resolve(t.Context(), n, nil); err != nil || got.ID != want.ID {
			t.Errorf("%s: %v %v", n, got.ID, err)
		}
	}
	if _, err := h.Save(t.Context(), []string{"small:1", "nosuch"}, nil); !errdefs.IsNotFound(err) {
		t.Errorf("saving what is not there: %v", err)
	}
	// A name that moves leaves its old image without a name.
	var out bytes.Buffer
	moved, _ := pack(t, imagemaker.Archive{Images: []imagemaker.Image{second.Named("small:1")}})
	if err := h2.Load(t.Context(), bytes.NewReader(moved), nil, images.NewProgress(&out, true)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "renaming the old one with ID") {
		t.Errorf("moved silently: %s", out.String())
	}
	list, err := h2.List(t.Context(), images.ListOptions{})
	if err != nil || !slices.Contains(names(list), "") {
		t.Errorf("the old image: %v %v", names(list), err)
	}
	hist, err := h.History(t.Context(), "second:2", nil)
	if err != nil || len(hist) != 4 || hist[0].ID != want.ID.String() || hist[1].ID != "<missing>" || hist[0].Size != 4 || !slices.Equal(hist[0].Tags, []string{"alias:3", "second:2"}) {
		t.Errorf("history %+v %v", hist, err)
	}
}

func tarOf(t testing.TB, l imagemaker.Layer) []byte {
	t.Helper()
	b, err := l.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestImport(t *testing.T) {
	h := open(t, t.TempDir(), "overlay")
	var out bytes.Buffer
	err := h.Import(t.Context(), bytes.NewReader(tarOf(t, small.Layers[0])), images.ImportOptions{
		Source: "-", Repo: "imp", Tag: "1", Message: "hello", Changes: []string{
			`CMD ["a","b"]`, "ENTRYPOINT run it", "ENV A=1 B=\"two words\"", "ENV C the rest", "EXPOSE 80 53/udp", `LABEL k="v w"`, "USER 7:8", "VOLUME /data",
			"WORKDIR /w", "WORKDIR sub", "STOPSIGNAL SIGINT", `SHELL ["/bin/ash","-c"]`, "ONBUILD RUN x", "HEALTHCHECK --interval=5s --retries=3 CMD check me",
		},
	}, images.NewProgress(&out, false))
	if err != nil {
		t.Fatal(err)
	}
	i, err := h.Inspect(t.Context(), "imp:1", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	c := i.Config
	if !strings.Contains(out.String(), i.ID) || i.Comment != "hello" || !slices.Equal(c.Cmd, []string{"a", "b"}) || !slices.Equal(c.Entrypoint, []string{"/bin/sh", "-c", "run it"}) ||
		!slices.Equal(c.Env, []string{"A=1", "B=two words", "C=the rest"}) || len(c.ExposedPorts) != 2 || c.Labels["k"] != "v w" || c.User != "7:8" || len(c.Volumes) != 1 ||
		c.WorkingDir != "/w/sub" || c.StopSignal != "SIGINT" || c.Healthcheck.Retries != 3 || !slices.Equal(c.Healthcheck.Test, []string{"CMD-SHELL", "check me"}) {
		b, _ := json.Marshal(i)
		t.Errorf("%s %s", out.String(), b)
	}
	if _, err := h.Resolve(t.Context(), "imp:1", nil); err != nil {
		t.Error(err)
	}
	h.recall.Dropper.Wait()
	blobs := blobFiles(t, h)
	for what, o := range map[string]images.ImportOptions{
		"change": {Source: "-", Changes: []string{"RUN rm -rf /"}}, "name": {Source: "-", Repo: "X"}, "source": {Source: "ftp://x/y"}, "truncated": {Source: "-"},
	} {
		body := tarOf(t, small.Layers[0])[:700]
		if err := h.Import(t.Context(), bytes.NewReader(body), o, images.Progress{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := blobFiles(t, h); n != blobs {
		t.Errorf("%d blobs left behind", n-blobs)
	}
}

func TestCommit(t *testing.T) {
	h := open(t, t.TempDir(), "overlay")
	load(t, h, imagemaker.Archive{Images: []imagemaker.Image{small}})
	img, err := h.Resolve(t.Context(), "small:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := h.layers.Create(t.Context(), "c1", img, containers.LayerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root.Upper, "new"), []byte("n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(root.Upper, "tmp"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	h.commit = func(fn func(context.Context, images.Committable) error) error {
		return fn(t.Context(), images.Committable{ID: "c1", Image: img, Config: spec.ImageConfig{ImageConfig: ocispec.ImageConfig{Cmd: []string{"orig"}, Env: []string{"A=1"}}}})
	}
	id, err := h.Commit(t.Context(), images.CommitOptions{Container: "c1", Repo: "done", Comment: "c", Author: "me", Changes: []string{"CMD new"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.Resolve(t.Context(), "done", nil)
	if err != nil || got.ID != id || len(got.DiffIDs) != 4 || !slices.Equal(got.DiffIDs[:3], img.DiffIDs) || !slices.Equal(got.Runtime.Env, []string{"A=1"}) {
		t.Fatalf("%+v %v", got, err)
	}
	i, err := h.Inspect(t.Context(), "done", nil, false)
	if err != nil || i.Author != "me" || i.Comment != "c" {
		t.Errorf("%+v %v", i, err)
	}
	// The new layer has the file and the whiteout, and the base's blobs stay when only the base is deleted.
	if _, err := h.Delete(t.Context(), "small:1", images.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	write, err := h.Save(t.Context(), []string{"done"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	inner := layerNames(t, b.Bytes(), got)
	if !slices.Contains(inner, "new") || !slices.Contains(inner, ".wh.tmp") {
		t.Errorf("the committed layer holds %v", inner)
	}
	if _, err := h.Commit(t.Context(), images.CommitOptions{Container: "c1"}); err == nil || !errdefs.IsFailedPrecondition(err) {
		t.Errorf("commit without the image: %v", err)
	}
}

func layerNames(t *testing.T, archive []byte, img spec.Image) (out []string) {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(h.Name, img.DiffIDs[len(img.DiffIDs)-1].Encoded()) {
			continue
		}
		for in := tar.NewReader(tr); ; {
			h, err := in.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, h.Name)
		}
	}
}

// A small disk that fills up: a clear error, and all the space back.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	h := open(t, dir, "overlay")
	big := imagemaker.Image{Names: []string{"big:1"}, Layers: []imagemaker.Layer{{imagemaker.File("big", strings.Repeat("x", 4<<20))}}}
	b, _ := pack(t, imagemaker.Archive{Images: []imagemaker.Image{big}})
	err := h.Load(t.Context(), bytes.NewReader(b), nil, images.Progress{})
	if !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("%v", err)
	}
	if n := blobFiles(t, h); n != 0 {
		t.Errorf("%d blobs left", n)
	}
	load(t, h, imagemaker.Archive{Images: []imagemaker.Image{small}})
}

func BenchmarkLoad(b *testing.B) {
	img := imagemaker.Image{Names: []string{"big:1"}}
	for range 4 {
		img.Layers = append(img.Layers, imagemaker.Layer{imagemaker.File("big", strings.Repeat("0123456789abcdef", 1<<20))})
	}
	data, _ := pack(b, imagemaker.Archive{Images: []imagemaker.Image{img}, Layers: "gzip"})
	b.SetBytes(64 << 20)
	for b.Loop() {
		h := open(b, b.TempDir(), "overlay")
		if err := h.Load(b.Context(), bytes.NewReader(data), nil, images.Progress{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	h := open(b, b.TempDir(), "overlay")
	load(b, h, imagemaker.Archive{Images: []imagemaker.Image{small}})
	for b.Loop() {
		if _, err := h.Resolve(b.Context(), "small:1", nil); err != nil {
			b.Fatal(err)
		}
	}
}
