package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
)

// result is one line of the table; the cells, by engine, carry their units.
type result struct {
	row, what         string
	cells             map[string]string
	floor, ratio, bar string
}

type table struct {
	conditions string
	engines    []*engine
	results    []result
}

func (t *table) head() []string {
	h := []string{"what"}
	for _, e := range t.engines {
		h = append(h, strings.TrimSpace(e.name+" "+e.version))
	}
	h[1] = t.engines[0].name
	return append(h, "floor", "ratio", "bar")
}

func (t *table) line(r result) []string {
	l := []string{r.what}
	for _, e := range t.engines {
		l = append(l, dash(r.cells[e.name]))
	}
	return append(l, dash(r.floor), dash(r.ratio), dash(r.bar))
}

func (t *table) print(w io.Writer) {
	fmt.Fprintln(w, t.conditions)
	tw := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(t.head(), "\t"))
	for _, r := range t.results {
		fmt.Fprintln(tw, strings.Join(t.line(r), "\t"))
	}
	_ = tw.Flush()
}

// markdown gives the table of the chosen rows, all if there are none.
func (t *table) markdown(rows []string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s\n\n| %s |\n|%s\n", t.conditions, strings.Join(t.head(), " | "), strings.Repeat(" --- |", len(t.head())))
	for _, r := range t.results {
		if len(rows) == 0 || slices.Contains(rows, r.row) {
			fmt.Fprintf(&s, "| %s |\n", strings.Join(t.line(r), " | "))
		}
	}
	return s.String()
}

// A file's marked part is between these; the first may name rows: <!-- bench: cycle,run -->.
const (
	markBegin = "<!-- bench:"
	markClose = "-->\n"
	markEnd   = "<!-- end of bench -->"
)

// marks finds a file's marked part: the rows it wants, and where its content begins and ends.
func marks(b []byte) (rows []string, from, to int, ok bool) {
	i := bytes.Index(b, []byte(markBegin))
	if i < 0 {
		return nil, 0, 0, false
	}
	i += len(markBegin)
	n := bytes.Index(b[i:], []byte(markClose))
	if n < 0 {
		return nil, 0, 0, false
	}
	rows, from = words(string(b[i:i+n])), i+n+len(markClose)
	n = bytes.Index(b[from:], []byte(markEnd))
	return rows, from, from + n, n >= 0
}

// checkMarks tells, before anything is measured, whether a file can take the table.
func checkMarks(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	rows, _, _, ok := marks(b)
	if !ok {
		return fmt.Errorf("%s has no part between %q and %q for the table", path, markBegin+" "+markClose[:3], markEnd)
	}
	if _, err := choose(rows); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (t *table) writeMarkdown(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	rows, from, to, ok := marks(b)
	if !ok {
		return fmt.Errorf("%s lost its marks meanwhile", path)
	}
	fresh := slices.Concat(b[:from], []byte("\n"+t.markdown(rows)+"\n"), b[to:])
	return atomicfile.Write(path, fresh, 0o644)
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// sample holds the durations of one operation, one per repetition.
type sample []time.Duration

func (s sample) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	c := slices.Clone(s)
	slices.Sort(c)
	return c[min(len(c)-1, int(float64(len(c))*q))]
}

func (s sample) median() time.Duration { return s.quantile(0.5) }

func (s sample) mean() (m time.Duration) {
	for _, d := range s {
		m += d
	}
	return m / time.Duration(max(len(s), 1))
}

// spread shows a sample as its median, smallest and 90th percentile.
func (s sample) spread() string {
	return fmt.Sprintf("%s (%.1f, %.1f)", ms(s.median()), float64(s.quantile(0))/1e6, float64(s.quantile(0.9))/1e6)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

func ratio(ours, theirs time.Duration) string {
	if theirs == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", float64(ours)/float64(theirs))
}
