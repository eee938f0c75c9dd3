package conformance

import (
	"os"
	"path/filepath"
	"strings"
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
	theirs := conformance.Run(t.Context(), conformance.Target{URL: "http://" + foreign.Addr}, conformance.Cases()...)
	for i, r := range theirs {
		if why := unsteady[r.Case.ID]; why != "" {
			theirs[i].Verdict, theirs[i].Why = conformance.Fail, why
		}
	}
	page := pageOf([]column{{"gantry registry", ours}, {"docker-registry", theirs}})
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
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(old) != page {
		t.Errorf("docs/registry-conformance.md is stale, `make conformance` writes it anew:\n%s", differing(string(old), page))
	}
}

// unsteady are cases that docker-registry keeps at some times only, and on what it depends.
var unsteady = map[string]string{
	"push-chunks-interrupted": "not each time: what is asked while the first half is still being written is answered with 404 later",
}

// differing are the lines of one text only, marked with the side that they are on.
func differing(old, new string) string {
	var b strings.Builder
	for _, side := range []struct{ mark, text, other string }{{"- ", old, new}, {"+ ", new, old}} {
		for line := range strings.Lines(side.text) {
			if !strings.Contains(side.other, line) {
				b.WriteString(side.mark + line)
			}
		}
	}
	return b.String()
}
