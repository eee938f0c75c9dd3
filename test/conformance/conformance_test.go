package conformance

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/conformance"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestPage: docs/registry-conformance.md is what the registries do. GANTRY_UPDATE_DOCS=1 writes it.
func TestPage(t *testing.T) {
	t.Setenv("TMPDIR", "/dev/shm") // what is pushed here need not reach a disk
	foreign := testkit.StartForeignRegistry(t, testkit.RegistryOptions{})
	own := testkit.StartOwnRegistry(t, false, nil)
	ours := conformance.Run(t.Context(), conformance.Target{URL: own.URL()}, conformance.Cases()...)
	for _, r := range ours {
		if r.Verdict != conformance.Pass {
			t.Errorf("our registry: %s: %s: %s", r.Case.ID, r.Verdict, r.Why)
		}
	}
	page := pageOf([]column{
		{"gantry registry", ours},
		{"docker-registry", conformance.Run(t.Context(), conformance.Target{URL: "http://" + foreign.Addr}, conformance.Cases()...)},
	})
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "docs/registry-conformance.md")
	if os.Getenv("GANTRY_UPDATE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old, err := os.ReadFile(file); err != nil || string(old) != page {
		t.Errorf("docs/registry-conformance.md is stale (%v): `make conformance` writes it anew", err)
	}
}
