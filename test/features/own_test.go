package features

import (
	"slices"
	"strings"
	"testing"
)

// Tests of the table's own machinery.

func TestParse(t *testing.T) {
	all, err := parse("f", "# note\n== a + b --x\n% --init\nrun x\n> 1\n! d | in «mid» dle => 7\n\n== c\n@ not yet: why\ntrue\n")
	if err != nil {
		t.Fatal(err)
	}
	a, c := all[0], all[1]
	if !slices.Equal(a.heads, []string{"a", "b --x"}) || !slices.Equal(a.daemon, []string{"--init"}) || !slices.Equal(a.want, []string{"1"}) ||
		a.edits[0] != (edit{file: "d", before: "in ", middle: "mid", after: " dle", repl: "7"}) || a.state != "works" {
		t.Errorf("%+v", a)
	}
	if c.state != "not yet" || c.reason != "why" || c.daemon != nil || c.want != nil {
		t.Errorf("%+v", c)
	}
	for _, bad := range []string{"run x", "== a", "== a\n@ perhaps: x\ntrue", "== a\ntrue\n! no mark", "== a\ntrue\n! f | no mark"} {
		if _, err := parse("f", bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestRowsOf(t *testing.T) {
	inventory := []string{"run --a", "create --a", "swarm", "swarm ca", "ps"}
	all, err := parse("f", "== run --a + swarm*\ntrue\n== swarm ca\ntrue\n== nothing\ntrue\n== run --a\ntrue\n")
	if err != nil {
		t.Fatal(err)
	}
	rows, problems := rowsOf(all, inventory)
	got := map[string]int{}
	for _, r := range rows {
		got[r.id] = r.block.line
	}
	if got["create --a"] == 0 || got["swarm"] != 1 || got["swarm ca"] != 3 {
		t.Errorf("%v", got)
	}
	for _, want := range []string{`"nothing" names nothing`, `"run --a" has a row in`, "no row: ps"} {
		if !strings.Contains(strings.Join(problems, "\n"), want) {
			t.Errorf("%q is missing in %q", want, problems)
		}
	}
}

// Mutations of one place, of a place within another, and beside each other keep their brackets apart.
func TestInsert(t *testing.T) {
	text := "f(abc, d)"
	var list []insertion
	add := func(n, start, end int, open, shut string) {
		list = append(list, insertion{start, true, end - start, n, open}, insertion{end, false, end - start, n, shut})
	}
	add(0, 2, 5, "A(", ",a)")
	add(1, 2, 5, "B(", ",b)")
	add(2, 3, 4, "C(", ",c)")
	add(3, 2, 8, "D(", ",d)")
	if got, want := insert(text, list), "f(D(B(A(aC(b,c)c,a),b), d,d))"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct{ middle, repl, want string }{
		{"x.Y", "", `mutant.Drop("i", x.Y)`},
		{"x.Y", "7", `mutant.Pick("i", x.Y, 7)`},
		{"x = 7", "", `if mutant.Off("i") {x = 7}`},
	} {
		open, shut := edit{middle: c.middle, repl: c.repl}.wrap("i")
		if open+c.middle+shut != c.want {
			t.Errorf("%s%s%s, want %s", open, c.middle, shut, c.want)
		}
	}
}
