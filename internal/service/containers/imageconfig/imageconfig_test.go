package imageconfig

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	ociimage "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/spec"
)

func TestMerge(t *testing.T) {
	img := spec.ImageConfig{
		ImageConfig: ociimage.ImageConfig{User: "app", WorkingDir: "/srv", Env: []string{"A=image", "B=image"}, Entrypoint: []string{"/run"}, Cmd: []string{"x"},
			Labels: map[string]string{"a": "image", "b": "image"}},
		DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "t"}, Retries: 2}},
	}
	for _, c := range []struct {
		name string
		user container.Config
		want container.Config
	}{
		{"the image's", container.Config{}, container.Config{User: "app", WorkingDir: "/srv", Env: img.Env, Entrypoint: img.Entrypoint, Cmd: img.Cmd, Labels: img.Labels, Healthcheck: img.Healthcheck}},
		{"the user's", container.Config{User: "me", WorkingDir: "/a/../b", Env: []string{"B=user"}, Cmd: []string{"y"}, Labels: map[string]string{"b": "user"}, Healthcheck: &container.HealthConfig{Interval: time.Second}},
			container.Config{User: "me", WorkingDir: "/b", Env: []string{"B=user", "A=image"}, Entrypoint: img.Entrypoint, Cmd: []string{"y"}, Labels: map[string]string{"a": "image", "b": "user"},
				Healthcheck: &container.HealthConfig{Test: []string{"CMD", "t"}, Interval: time.Second, Retries: 2}}},
		{"an entry point of one's own", container.Config{Entrypoint: []string{"/mine"}}, container.Config{User: "app", WorkingDir: "/srv", Env: img.Env, Entrypoint: []string{"/mine"}, Labels: img.Labels, Healthcheck: img.Healthcheck}},
		{"no entry point", container.Config{Entrypoint: []string{""}, Cmd: []string{"y"}}, container.Config{User: "app", WorkingDir: "/srv", Env: img.Env, Cmd: []string{"y"}, Labels: img.Labels, Healthcheck: img.Healthcheck}},
	} {
		if err := Merge(&c.user, &img); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := cmp.Diff(c.want, c.user); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
	for name, bad := range map[string]container.Config{"nothing to run": {Entrypoint: []string{""}}, "a relative folder": {Cmd: []string{"x"}, WorkingDir: "srv"}} {
		if err := Merge(&bad, &spec.ImageConfig{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
