package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMarkdownReplacesOnlyTheMarkedPart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.md")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tab := &table{conditions: "A quiet day.", engines: []*engine{{name: "gantry", version: "dev"}, {name: "docker", version: "20.10"}}, results: []result{
		{row: "cycle", what: "a life", cells: map[string]string{"gantry": "1 ms", "docker": "9 ms"}, floor: "0.5 ms", ratio: "2×", bar: "≤ 2×"},
		{row: "run", what: "run", cells: map[string]string{"gantry": "3 ms"}},
	}}
	write("before\n<!-- bench: cycle -->\nold\n<!-- end of bench -->\nafter\n")
	for range 2 { // a second time changes nothing
		if err := checkMarks(path); err != nil {
			t.Fatal(err)
		}
		if err := tab.writeMarkdown(path); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(path)
	want := "before\n<!-- bench: cycle -->\n\nA quiet day.\n\n| what | gantry | docker 20.10 | floor | ratio | bar |\n| --- | --- | --- | --- | --- | --- |\n" +
		"| a life | 1 ms | 9 ms | 0.5 ms | 2× | ≤ 2× |\n\n<!-- end of bench -->\nafter\n"
	if string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	write("<!-- bench: -->\n<!-- end of bench -->")
	if err := tab.writeMarkdown(path); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); !strings.Contains(string(got), "| run | 3 ms | – | – | – | – |") {
		t.Errorf("not all rows are in\n%s", got)
	}
	for _, bad := range []string{"", "<!-- bench: -->\n", "<!-- bench: nonsense -->\n<!-- end of bench -->"} {
		write(bad)
		if checkMarks(path) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestSample(t *testing.T) {
	var s sample
	for i := 100; i > 0; i-- {
		s = append(s, time.Duration(i)*time.Millisecond)
	}
	if got := s.spread(); got != "51.0 ms (1.0, 91.0)" {
		t.Error(got)
	}
	if got := s.mean(); got != 50500*time.Microsecond {
		t.Error(got)
	}
	if (sample{}).median() != 0 || ratio(1, 0) != "–" {
		t.Error("nothing measured is not nothing")
	}
}

func TestRowsHaveNames(t *testing.T) {
	if _, err := choose([]string{"cycle", "nonsense"}); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Error(err)
	}
	seen := map[string]bool{}
	for _, r := range all {
		if seen[r.name] || r.what == "" || r.bar == "" {
			t.Errorf("row %q", r.name)
		}
		seen[r.name] = true
	}
}
