package config

import (
	"os"
	"strings"
	"testing"
)

// The table in the documentation is the one that the daemon obeys. With
// GANTRY_UPDATE_DOCS set the file is rewritten.
func TestDocumentationIsTheTable(t *testing.T) {
	const path, begin, end = "../../docs/configuration.md", "<!-- table: begin -->\n", "<!-- table: end -->"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(data), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	if old == Table() {
		return
	}
	if os.Getenv("GANTRY_UPDATE_DOCS") == "" {
		t.Fatalf("%s has another table: run this test with GANTRY_UPDATE_DOCS=1", path)
	}
	if err := os.WriteFile(path, []byte(head+begin+Table()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
