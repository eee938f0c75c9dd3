package features

import (
	"reflect"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/cli"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

// The rows name a command by its shortest path. All other paths to it lead to the same code.
func TestAliases(t *testing.T) {
	rows, err := table("cli.tsv")
	if err != nil {
		t.Fatal(err)
	}
	checked := map[string]bool{}
	for _, r := range load(t) {
		if r.block.state == "not yet" {
			checked["docker "+r.id] = true
		}
	}
	for _, f := range rows {
		if f[4] == "" || checked[f[0]] {
			continue
		}
		checked[f[0]] = true
		own := lookUp(f[0])
		for alias := range strings.SplitSeq(f[4], "|") {
			if checked[alias] {
				continue
			}
			other := lookUp(alias)
			if (own == nil) != (other == nil) {
				if !strings.Contains(alias, "buildx") {
					t.Errorf("%q and %q: one is there, one is not", f[0], alias)
				}
				continue
			}
			if own != nil && reflect.ValueOf(own.Build).Pointer() != reflect.ValueOf(other.Build).Pointer() {
				t.Errorf("%q and %q are different commands", f[0], alias)
			}
		}
	}
}

func lookUp(path string) *app.Command {
	c := cli.Root()
	for _, word := range strings.Fields(path)[1:] {
		if c = c.Find(word); c == nil {
			return nil
		}
	}
	return c
}
