package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// result is one line of the table; the cells carry their units.
type result struct {
	what, ours, docker, podman, floor, ratio, bar string
}

func print(w io.Writer, rs []result) {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	fmt.Fprintln(t, "what\tgantry\tdocker 20.10\tpodman 4.3\tfloor\tratio\tbar")
	for _, r := range rs {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.what, r.ours, dash(r.docker), dash(r.podman), dash(r.floor), dash(r.ratio), r.bar)
	}
	_ = t.Flush()
}

func printMarkdown(w io.Writer, rs []result) error {
	fmt.Fprintln(w, "| what | gantry | docker 20.10 | podman 4.3 | floor | ratio | bar |\n| --- | --- | --- | --- | --- | --- | --- |")
	for _, r := range rs {
		if _, err := fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", r.what, r.ours, dash(r.docker), dash(r.podman), dash(r.floor), dash(r.ratio), r.bar); err != nil {
			return err
		}
	}
	return nil
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

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

func ratio(ours, theirs time.Duration) string {
	if theirs == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", float64(ours)/float64(theirs))
}
