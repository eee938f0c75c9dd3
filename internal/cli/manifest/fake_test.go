package manifest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

// hub is registries in memory, by repository; blobs and manifests are one there.
type hub struct {
	repos map[string]*repo
	asked []string // "alice Put r.test/list"
	deny  bool     // nothing is mounted
}

type repo struct {
	hub     *hub
	name    string // in full
	user    string
	types   map[digest.Digest]string
	content map[digest.Digest][]byte
	tags    map[string]digest.Digest
	open    int
}

func (h *hub) repo(name string) *repo {
	if h.repos[name] == nil {
		h.repos[name] = &repo{hub: h, name: name, types: map[digest.Digest]string{}, content: map[digest.Digest][]byte{}, tags: map[string]digest.Digest{}}
	}
	return h.repos[name]
}

func (h *hub) opener(_ context.Context, name ref.Ref, auth registry.AuthConfig, insecure bool) (Repository, error) {
	if strings.HasPrefix(name.Domain, "plain.") && !insecure {
		return nil, fmt.Errorf("%s speaks plain HTTP", name.Domain)
	}
	r := h.repo(name.Name())
	r.user = auth.Username
	r.open++
	return r, nil
}

func (r *repo) note(what string) {
	r.hub.asked = append(r.hub.asked, strings.TrimSpace(r.user+" "+what+" "+r.name))
}

func (r *repo) add(tag, mediaType string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	r.types[d], r.content[d] = mediaType, b
	if tag != "" {
		r.tags[tag] = d
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// image adds an image for a platform, "linux/arm/v7".
func (r *repo) image(tag, mediaType, platform string) ocispec.Descriptor {
	p := append(strings.Split(platform, "/"), "")
	kind := map[string]string{dockerManifest: dockerConfig, ocispec.MediaTypeImageManifest: ocispec.MediaTypeImageConfig}[mediaType]
	config := r.add("", kind, fmt.Appendf(nil, `{"os":%q,"architecture":%q,"variant":%q,"rootfs":{}}`, p[0], p[1], p[2]))
	layer := r.add("", "application/vnd.oci.image.layer.v1.tar", []byte("layer of "+platform))
	return r.add(tag, mediaType, fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d},`+
		`{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"sha256:%064d","size":9,"urls":["https://elsewhere"]}]}`,
		mediaType, kind, config.Digest, config.Size, layer.MediaType, layer.Digest, layer.Size, 7))
}

func (r *repo) Resolve(_ context.Context, tag string) (ocispec.Descriptor, error) {
	r.note("Resolve")
	d, ok := r.tags[tag]
	if !ok {
		d = digest.Digest(tag)
	}
	if r.content[d] == nil {
		return ocispec.Descriptor{}, fmt.Errorf("%s has no %s: %w", r.name, tag, errdefs.ErrNotFound)
	}
	return ocispec.Descriptor{MediaType: r.types[d], Digest: d, Size: int64(len(r.content[d]))}, nil
}

func (r *repo) Fetch(_ context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	b := r.content[d.Digest]
	if b == nil {
		return nil, fmt.Errorf("%s has no %s: %w", r.name, d.Digest, errdefs.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(b[offset:])), nil
}

func (r *repo) Upload(_ context.Context, d ocispec.Descriptor, from []string, open func(int64) (io.ReadCloser, error)) (string, error) {
	domain, _, _ := strings.Cut(r.name, "/")
	for _, f := range from {
		if b := r.hub.repo(domain + "/" + f).content[d.Digest]; b != nil && !r.hub.deny {
			r.add("", d.MediaType, b)
			r.note("mount")
			return f, nil
		}
	}
	rc, err := open(0)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(rc)
	r.add("", d.MediaType, b)
	r.note("upload")
	return "", err
}

func (r *repo) Put(_ context.Context, mediaType, tag string, body []byte) error {
	r.note("Put")
	r.add(tag, mediaType, body)
	return nil
}

func (r *repo) Close() { r.open-- }

// lab is a client's directory, and registries.
type lab struct {
	*hub
	t    *testing.T
	home string
}

func newLab(t *testing.T) *lab {
	l := &lab{hub: &hub{repos: map[string]*repo{}}, t: t, home: filepath.Join(t.TempDir(), "home")}
	t.Cleanup(func() {
		for name, r := range l.repos {
			if r.open != 0 {
				t.Errorf("%s is open %d times", name, r.open)
			}
		}
	})
	return l
}

// run carries out a command line behind "manifest".
func (l *lab) run(args ...string) (out string, err error) {
	return l.with(l.opener, args...)
}

func (l *lab) with(open Opener, args ...string) (string, error) {
	var out bytes.Buffer
	a := app.New("gantry")
	a.Out, a.Err = app.NewOutput(&out), &out
	root := &app.Command{Sub: func() []*app.Command { return []*app.Command{Group(open)} }}
	l.t.Setenv("DOCKER_CONFIG", l.home)
	err := a.Run(l.t.Context(), root, append([]string{"manifest"}, args...), app.Hooks{})
	return out.String(), err
}

func (l *lab) must(args ...string) string {
	l.t.Helper()
	out, err := l.run(args...)
	if err != nil {
		l.t.Fatalf("%v: %v", args, err)
	}
	return out
}

func (l *lab) fails(text string, args ...string) {
	l.t.Helper()
	if out, err := l.run(args...); err == nil || !strings.Contains(err.Error(), text) {
		l.t.Errorf("%v: %v, want %q\n%s", args, err, text, out)
	}
}

// files are the files of the store, below the client's directory.
func (l *lab) files() []string {
	found := map[string]bool{}
	for _, depth := range []string{"*", "*/*"} {
		names, _ := filepath.Glob(filepath.Join(l.home, "manifests", depth))
		for _, n := range names {
			rel, _ := filepath.Rel(filepath.Join(l.home, "manifests"), n)
			found[rel] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
