package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// notYet are the commands of the table that belong to parts of the engine that are not there.
var notYet = []string{"builder build", "image build", "build", "bake", "buildx", "checkpoint", "compose", "config", "node", "plugin", "secret", "service", "stack", "swarm", "trust", "docker"}

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

// flagRow is a line of the table of docker's commands and flags; flag is empty where the line is about the command.
type flagRow struct {
	command, flag, short, kind, def string
	aliases                         []string
}

func table(t *testing.T) (rows []flagRow) {
	t.Helper()
	b, err := os.ReadFile("testdata/cli.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n")[1:] {
		col := append(strings.Split(line, "\t"), "", "", "", "", "", "", "")
		r := flagRow{command: strings.TrimPrefix(col[0], "docker "), flag: strings.TrimPrefix(col[1], "--"), short: strings.TrimPrefix(col[2], "-"), kind: col[3], def: col[4]}
		for _, alias := range strings.Split(col[6], "|") {
			if alias = strings.TrimPrefix(alias, "docker "); alias != "" {
				r.aliases = append(r.aliases, alias)
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// Every command and flag of docker's table is there, with the same short name, type and default.
func TestEveryCommandAndFlagOfTheTable(t *testing.T) {
	a, root, checked := app.New("gantry"), Root(), 0
	for _, row := range table(t) {
		if outside(row.command) {
			continue
		}
		c := find(root, strings.Fields(row.command))
		if c == nil {
			t.Errorf("no command %q", row.command)
			continue
		}
		for _, alias := range row.aliases {
			if find(root, strings.Fields(alias)) == nil {
				t.Errorf("%s: no alias %q", row.command, alias)
			}
		}
		if row.flag == "" {
			continue
		}
		checked++
		f, _ := c.Flags(a)
		got := f.Lookup(row.flag)
		if got == nil {
			t.Errorf("%s: no flag --%s", row.command, row.flag)
			continue
		}
		def := got.DefValue
		if def == "false" || def == "[]" && row.def == "" {
			def = ""
		}
		if got.Shorthand != row.short || got.Value.Type() != row.kind || def != row.def {
			t.Errorf("%s --%s is -%s %s %q, want %s %s %q", row.command, row.flag, got.Shorthand, got.Value.Type(), def, row.short, row.kind, row.def)
		}
	}
	if checked < 500 {
		t.Fatalf("only %d flags were checked", checked)
	}
}
