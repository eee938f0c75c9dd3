package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// docs/features.md lists every endpoint of the API and whether this engine serves it, asked of a
// running engine: 501, 503 (swarm) and an unknown page mean "not yet". GANTRY_UPDATE_DOCS=1 writes the page.
func TestFeaturesPage(t *testing.T) {
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(root, "test/e2e/testdata/endpoints.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	e := engine(t)
	var page strings.Builder
	page.WriteString("# What is there\n\nEvery endpoint of the Engine API v1.56, asked of a running engine by `test/e2e` (`GANTRY_UPDATE_DOCS=1 go test ./test/e2e -run FeaturesPage` writes this page).\n" +
		"*served* means that the engine answers for itself; what single options are not there yet answers 501 and names the option. The daemon's flags are in [configuration.md](configuration.md).\n\n" +
		"| object | endpoint | |\n| --- | --- | --- |\n")
	served := 0
	for i, line := range strings.Split(strings.TrimSpace(string(list)), "\n") {
		f := strings.Split(line, "\t")
		if i == 0 || len(f) < 3 {
			continue
		}
		state := "not yet"
		if isServed(t, e, f[1], f[2]) {
			state = "served"
			served++
		}
		fmt.Fprintf(&page, "| %s | `%s %s` | %s |\n", f[0], f[1], f[2], state)
	}
	if served < 50 {
		t.Fatalf("only %d endpoints are served: something is wrong", served)
	}
	file := filepath.Join(root, "docs/features.md")
	if os.Getenv("GANTRY_UPDATE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	old, err := os.ReadFile(file)
	if err != nil || string(old) != page.String() {
		t.Errorf("docs/features.md is stale (%v); GANTRY_UPDATE_DOCS=1 writes it anew", err)
	}
}

func isServed(t *testing.T, e *testkit.Engine, method, path string) bool {
	t.Helper()
	id := "nosuch"
	if strings.HasPrefix(path, "/networks/") { // what is not there is said of a network that is
		id = "bridge"
	}
	path = strings.NewReplacer("{id}", id, "{name}", "nosuch").Replace(path)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if path == "/events" {
		path += "?since=1&until=2"
	}
	body := `{"Name":"features","Container":"nosuch"}`
	if path == "/images/create" {
		path += "?fromImage=nosuch"
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://d/v1.56"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := e.HTTP().Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(res.Body)
	switch res.StatusCode {
	case http.StatusNotImplemented, http.StatusServiceUnavailable:
		return false
	case http.StatusNotFound:
		return !strings.Contains(b.String(), "page not found")
	}
	return true
}
