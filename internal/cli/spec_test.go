package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// notYet are the commands of the table that belong to parts of the engine that are not there.
var notYet = []string{"builder build", "image build", "build", "bake", "buildx", "checkpoint", "compose", "config", "manifest", "node", "plugin", "secret", "service", "stack", "swarm", "trust", "docker"}

func outside(cmd string) bool {
	for _, n := range notYet {
		if cmd == n || strings.HasPrefix(cmd, n+" ") {
			return true
		}
	}
	return false
}

func find(root *app.Command, words []string) *app.Command {
	c := root
	for _, w := range words {
		if c = c.Find(w); c == nil {
			return nil
		}
	}
	return c
}

// Every command and flag of docker's table is there, with the same short name, type and default.
func TestEveryCommandAndFlagOfTheTable(t *testing.T) {
	b, err := os.ReadFile("testdata/cli.tsv")
	if err != nil {
		t.Fatal(err)
	}
	a, root, checked := app.New("gantry"), Root(), 0
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n")[1:] {
		col := append(strings.Split(line, "\t"), "", "", "", "", "", "", "")
		name := strings.TrimPrefix(col[0], "docker ")
		if outside(name) {
			continue
		}
		c := find(root, strings.Fields(name))
		if c == nil {
			t.Errorf("no command %q", name)
			continue
		}
		for _, alias := range strings.Split(col[6], "|") {
			if alias = strings.TrimPrefix(alias, "docker "); alias != "" && find(root, strings.Fields(alias)) == nil {
				t.Errorf("%s: no alias %q", name, alias)
			}
		}
		flag := strings.TrimPrefix(col[1], "--")
		if flag == "" {
			continue
		}
		checked++
		f, _ := c.Flags(a)
		got := f.Lookup(flag)
		if got == nil {
			t.Errorf("%s: no flag --%s", name, flag)
			continue
		}
		def := got.DefValue
		if def == "false" || def == "[]" && col[4] == "" {
			def = ""
		}
		if got.Shorthand != strings.TrimPrefix(col[2], "-") || got.Value.Type() != col[3] || def != col[4] {
			t.Errorf("%s --%s is -%s %s %q, want %s %s %q", name, flag, got.Shorthand, got.Value.Type(), def, col[2], col[3], col[4])
		}
	}
	if checked < 500 {
		t.Fatalf("only %d flags were checked", checked)
	}
}
