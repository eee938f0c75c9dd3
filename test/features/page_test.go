package features

import (
	"fmt"
	"slices"
	"strings"
)

const preface = `# What is there

Every command and flag of the command line, every endpoint, parameter and filter of the Engine API v1.56, every field of a container's creation, every flag of the daemon. The page
is made by [test/features](../test/features): ` + "`make features`" + ` plays the rows and writes it.

- **works**: a script asserts the option's effect, and ` + "`make features-proof`" + ` has seen that script fail with the code removed: the line that gives the effect, or for flags, parameters and routes the
  reading of them.
- **works, unproven**: the script passes, but was not seen to fail with the code removed; the reason stands beside it.
- **not yet**: refused by name, and the script shows the refusal.
- **no effect**: accepted for the sake of existing callers, with the reason why nothing follows.

The third column names the file of [test/features/rows](../test/features/rows) in which the script stands.
`

// pageOf is docs/features.md.
func pageOf(rows []row, known map[string]proof) string {
	var b strings.Builder
	b.WriteString(preface)
	sections := []struct {
		title string
		match func(string) bool
	}{
		{"Command line", isCLI},
		{"Engine API", func(id string) bool {
			return !isCLI(id) && !strings.HasPrefix(id, "gantryd") && !strings.HasPrefix(id, createBody)
		}},
		{"Creating a container", func(id string) bool { return strings.HasPrefix(id, createBody) }},
		{"The daemon", func(id string) bool { return strings.HasPrefix(id, "gantryd") }},
	}
	counts := map[string]int{}
	for _, r := range rows {
		counts[stateOf(r, known)]++
	}
	b.WriteString("\n| state | rows |\n| --- | --- |\n")
	for _, s := range []string{"works", "works, unproven", "not yet", "no effect"} {
		fmt.Fprintf(&b, "| %s | %d |\n", s, counts[s])
	}
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n| what | state | shown in |\n| --- | --- | --- |\n", s.title)
		b.WriteString(section(slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !s.match(r.id) }), known))
	}
	return b.String()
}

const createBody = "POST /containers/create ."

// section is the lines of a table. What is refused as a whole, a command with all
// its flags, takes one line.
func section(rows []row, known map[string]proof) string {
	var b strings.Builder
	for i := 0; i < len(rows); i++ {
		r := rows[i]
		n := 1
		for ; i+n < len(rows) && strings.HasPrefix(rows[i+n].id, r.id+" ") && rows[i+n].block == r.block && r.block.state == "not yet"; n++ {
		}
		what := "`" + strings.TrimPrefix(r.id, createBody) + "`"
		if n > 1 {
			what += fmt.Sprintf(" and all below it (%d rows)", n)
		}
		i += n - 1
		state := stateOf(r, known)
		switch {
		case state == "works":
			state = "**works**"
		case r.block.reason != "":
			state += ": " + r.block.reason
		case state == "works, unproven":
			if p := known[r.id]; p.key == r.key() && p.result != "" {
				state += ": " + p.result
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", what, strings.ReplaceAll(state, "|", "\\|"), r.block.file)
	}
	return b.String()
}

func stateOf(r row, known map[string]proof) string {
	switch r.block.state {
	case "works":
	case "unproven":
		return "works, unproven"
	default:
		return r.block.state
	}
	if p := known[r.id]; p.key == r.key() && p.result == "proven" {
		return "works"
	}
	return "works, unproven"
}
