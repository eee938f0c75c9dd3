package rootview

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
)

// What decides is the mount that a path leads to, not the path.
func TestReadOnlyByTheMountReached(t *testing.T) {
	plain := t.TempDir()
	must(t, os.Mkdir(filepath.Join(plain, "etc"), 0o755))
	for name, root := range map[string]spec.Rootfs{"overlay": overlay(t), "folder": {Path: plain}} {
		t.Run(name, func(t *testing.T) {
			vol, ro := t.TempDir(), t.TempDir()
			must(t, os.Symlink("/etc", filepath.Join(vol, "root")))
			must(t, os.Symlink("/ro", filepath.Join(vol, "ro")))
			must(t, os.Symlink("/vol", filepath.Join(ro, "vol")))
			v, err := New().Open(t.Context(), root, []specs.Mount{
				{Destination: "/", Options: []string{"ro"}},
				{Destination: "/vol", Source: vol, Type: "bind", Options: []string{"rbind"}},
				{Destination: "/ro", Source: ro, Type: "bind", Options: []string{"rbind", "ro"}},
			}, 0)
			must(t, err)
			defer v.Close()
			for at, want := range map[string]string{
				"/": "rootfs", "/etc": "rootfs", "/vol/root": "rootfs", "/ro": "volume", "/vol/ro": "volume", "/vol": "", "/ro/vol": "",
			} {
				err := v.TarIn(t.Context(), at, archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "x", Mode: 0o600}), containers.TarInOptions{})
				if want == "" && err != nil || want != "" && (!errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), want+" is marked read-only")) {
					t.Errorf("into %s: %v, want %q", at, err, want)
				}
			}
		})
	}
	v, err := New().Open(t.Context(), overlay(t), []specs.Mount{{Destination: "/", Options: []string{"ro"}}}, 0)
	must(t, err)
	defer v.Close()
	if err := v.TarIn(t.Context(), "/etc", archive(t), containers.TarInOptions{}); !errdefs.IsPermissionDenied(err) {
		t.Errorf("an empty archive into a read-only root without volumes: %v", err)
	}
}

func TestSubpathStaysInTheVolume(t *testing.T) {
	host := t.TempDir()
	must(t, os.WriteFile(filepath.Join(host, "secret"), []byte("x"), 0o600))
	vol := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(vol, "a/b"), 0o755))
	must(t, os.WriteFile(filepath.Join(vol, "a/b/f"), []byte("inside"), 0o600))
	must(t, os.Symlink("a/b", filepath.Join(vol, "within")))
	must(t, os.Symlink(host, filepath.Join(vol, "out")))
	must(t, os.Symlink("../"+filepath.Base(host), filepath.Join(vol, "up")))
	for sub, ok := range map[string]bool{"a/b": true, "within": true, "out": false, "up": false, "../x": false} {
		v, err := New().Open(t.Context(), overlay(t), []specs.Mount{
			{Destination: "/data", Source: vol, Type: "bind", Options: []string{"rbind", "subpath=" + sub}},
		}, 0)
		if !ok {
			if err == nil {
				t.Errorf("%s leads out of the volume and was mounted: %v", sub, read(t, v, "/data", "d"))
				_ = v.Close()
			}
			continue
		}
		must(t, err)
		if got := read(t, v, "/data", "d"); got["d/f"] != "inside" {
			t.Errorf("%s: %v", sub, got)
		}
		must(t, v.Close())
	}
}
