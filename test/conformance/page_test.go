package conformance

import (
	"fmt"
	"strings"

	"github.com/gantry-engine/gantry/internal/testkit/conformance"
)

const preface = `# Registries and the OCI distribution specification

What the [OCI distribution specification 1.1](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md) says of registries, case by case, and who keeps it. The cases are an ordinary
package, [internal/testkit/conformance](../internal/testkit/conformance), written from the specification; ` + "`make conformance`" + ` runs them and writes this page, and ` + "`make test`" + ` fails when a registry
answers in another way than the page says.

- **MUST**, **SHOULD**, **MAY**: how strongly the specification asks for it. The cases are grouped by its sections.
- **yes**: the registry does it. **no**: it does not, with what it answered first. **—**: it leaves out what it may leave out.
`

// column is a registry on the page.
type column struct {
	title   string
	results []conformance.Result
}

// pageOf is docs/registry-conformance.md.
func pageOf(columns []column) string {
	var b strings.Builder
	b.WriteString(preface)
	b.WriteString("\n| registry | MUST | SHOULD | MAY |\n| --- | --- | --- | --- |\n")
	for _, c := range columns {
		fmt.Fprintf(&b, "| %s", c.title)
		for _, level := range []conformance.Level{conformance.Must, conformance.Should, conformance.May} {
			b.WriteString(" | " + score(c.results, level))
		}
		b.WriteString(" |\n")
	}
	heading := [2]string{}
	for i, r := range columns[0].results {
		if c := string(r.Case.Category); c != heading[0] {
			fmt.Fprintf(&b, "\n## %s\n", c)
			heading = [2]string{c, ""}
		}
		if s := r.Case.Section; s != heading[1] {
			fmt.Fprintf(&b, "\n### %s\n\n| case | level | what is said |", s)
			rule := "\n| --- | --- | --- |"
			for _, c := range columns {
				b.WriteString(" " + c.title + " |")
				rule += " --- |"
			}
			b.WriteString(rule + "\n")
			heading[1] = s
		}
		fmt.Fprintf(&b, "| %s | %s | %s |", r.Case.ID, r.Case.Level, r.Case.Says)
		for _, c := range columns {
			b.WriteString(" " + cell(c.results[i]) + " |")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// score counts the cases of a level that a registry keeps.
func score(results []conformance.Result, level conformance.Level) string {
	n, kept, absent := 0, 0, 0
	for _, r := range results {
		if r.Case.Level != level {
			continue
		}
		n++
		switch r.Verdict {
		case conformance.Pass:
			kept++
		case conformance.Absent:
			absent++
		}
	}
	if absent > 0 {
		return fmt.Sprintf("%d of %d, %d left out", kept, n, absent)
	}
	return fmt.Sprintf("%d of %d", kept, n)
}

// cell is one result. Of several reasons the first says most.
func cell(r conformance.Result) string {
	why, _, _ := strings.Cut(r.Why, "; ")
	why = strings.NewReplacer("|", "\\|", "<", "\\<").Replace(why)
	switch r.Verdict {
	case conformance.Pass:
		return "yes"
	case conformance.Absent:
		return "— (" + why + ")"
	}
	return "**no**: " + why
}
