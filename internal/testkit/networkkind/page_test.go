package networkkind

import (
	"os"
	"strings"
	"testing"
)

// The page for users has the table that the drivers' suites are compared with.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/network-drivers.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), Markdown()) {
		t.Errorf("docs/network-drivers.md does not have this table:\n%s", Markdown())
	}
}
