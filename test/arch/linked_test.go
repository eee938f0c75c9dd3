package arch

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// What was really linked, read from the executables themselves.
func TestLinkedModules(t *testing.T) {
	bin := testkit.Bin(t)
	banned := []string{"github.com/docker/docker", "github.com/moby/moby/v2", "github.com/docker/cli"}
	small := map[string]int64{"gantry-init": 2 << 20, "gantry-anchor": 6 << 20, "gantry-keeper": 10 << 20}
	for _, name := range []string{"gantry", "gantry-manifest", "gantryd", "gantry-keeper", "gantry-anchor", "gantry-net", "gantry-lazy", "gantry-runtime", "gantry-init", "gantry-registry", "gantry-trust", "gantry-import"} {
		path := filepath.Join(bin, name)
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, dep := range info.Deps {
			for _, b := range banned {
				if within(dep.Path, b) {
					t.Errorf("%s links %s", name, dep.Path)
				}
			}
			if name != "gantry-trust" && within(dep.Path, "github.com/sigstore") {
				t.Errorf("%s links %s: signatures are made and verified in gantry-trust", name, dep.Path)
			}
			if name == "gantry" && (within(dep.Path, "github.com/containerd/containerd") || within(dep.Path, "go.etcd.io/bbolt")) {
				t.Errorf("the command line links %s: it talks to the API only", dep.Path)
			}
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if limit := small[name]; limit > 0 && st.Size() > limit {
			t.Errorf("%s has %d bytes, more than %d: it is to stay small", name, st.Size(), limit)
		}
	}
}
