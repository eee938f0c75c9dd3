//go:build linux

package networkkind

import (
	_ "embed" // the table
	"maps"
	"slices"
	"strings"
	"testing"
)

//go:embed table.tsv
var table string

// Report is what a driver gives, by the names of the table's rows.
type Report map[string]string

// promised reads a column of the table.
func promised(column string) Report {
	lines := strings.Split(strings.TrimSpace(table), "\n")
	at := slices.Index(strings.Split(lines[0], "\t"), column)
	out := Report{}
	for _, line := range lines[1:] {
		if cells := strings.Split(line, "\t"); at > 0 && at < len(cells) {
			out[cells[0]] = cells[at]
		}
	}
	return out
}

// compare fails where the table says other than what was measured.
func (r Report) compare(t *testing.T, column string) {
	t.Helper()
	want := promised(column)
	if len(want) == 0 {
		t.Errorf("the table has no column %s", column)
	}
	for _, row := range slices.Sorted(maps.Keys(r)) {
		if want[row] != r[row] {
			t.Errorf("%s: %s: the table says %q, it is %q", column, row, want[row], r[row])
		}
		delete(want, row)
	}
	for row := range want {
		t.Errorf("%s: %s was not measured", column, row)
	}
}

// Markdown is the table as the page for users has it.
func Markdown() string {
	var b strings.Builder
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		b.WriteString("| " + strings.ReplaceAll(line, "\t", " | ") + " |\n")
		if i == 0 {
			b.WriteString(strings.Repeat("| --- ", strings.Count(line, "\t")+1) + "|\n")
		}
	}
	return b.String()
}
