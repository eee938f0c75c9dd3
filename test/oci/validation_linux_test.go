package oci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// quick is what runs without GANTRY_TEST_OCI.
var quick = []string{"create", "hooks_stdin", "kill", "pidfile", "process", "state"}

const runs = 3

type row struct {
	program            string
	reference, subject *result
}

// TestValidation holds gantry-runtime to the bar: every line that runc passes, and more
// programs as a whole. GANTRY_TEST_OCI=1 runs everything and writes docs/oci-validation.md;
// GANTRY_TEST_OCI=name,name runs those programs and prints what they say.
func TestValidation(t *testing.T) {
	want := os.Getenv("GANTRY_TEST_OCI")
	only, full := quick, want == "1"
	switch {
	case full:
		only = nil
	case want != "":
		only = strings.Split(want, ",")
	case testing.Short():
		t.Skip("builds and runs programs of another module")
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("runc, the reference, is not installed")
	}
	s := fetch(t, only)
	bin := filepath.Join(testkit.Bin(t), "gantry-runtime")
	rows := make([]row, len(s.programs))
	s.each(func(i int, p string) {
		script, root := wrapper(t, runc, "runc")
		rows[i] = row{program: p, reference: s.best(p, script, root)}
	})
	before := leftovers(t) // runc mounts on the host for a configuration without a mount namespace
	s.each(func(i int, p string) {
		script, root := wrapper(t, bin, "gantry-runtime")
		rows[i].subject = s.best(p, script, root)
	})
	judge(t, rows, want != "" && !full, full)
	for _, l := range leftovers(t) {
		if !slices.Contains(before, l) {
			t.Errorf("left behind: %s", l)
		}
	}
	if full {
		report(t, rows)
	}
}

// each calls do for every program, four at a time; those about cgroups share one
// cgroup and so run one after the other.
func (s *suite) each(do func(i int, program string)) {
	var together sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i, p := range s.programs {
		if !sharesCgroup(p) {
			together.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				do(i, p)
			})
		}
	}
	together.Wait()
	for i, p := range s.programs {
		if sharesCgroup(p) {
			do(i, p)
		}
	}
}

func sharesCgroup(program string) bool {
	return strings.Contains(program, "cgroups") || strings.Contains(program, "resources") || strings.Contains(program, "config_updates")
}

// best runs a program up to three times and keeps the best run; a whole pass ends early.
func (s *suite) best(program, script, root string) (best *result) {
	for range runs {
		if r := s.run(program, script, root); r.better(best) {
			best = r
		}
		if best.pass() {
			break
		}
	}
	return best
}

func judge(t *testing.T, rows []row, verbose, full bool) {
	t.Helper()
	whole, wholeReference := 0, 0
	for _, r := range rows {
		if verbose {
			t.Logf("%s: runc\n%s\n%s: gantry\n%s", r.program, r.reference.output, r.program, r.subject.output)
		}
		for _, l := range r.subject.lost(r.reference) {
			t.Errorf("%s: runc passes, gantry-runtime does not: %s", r.program, l)
		}
		if r.reference.pass() && !r.subject.pass() {
			t.Errorf("%s: passes with runc, not with gantry-runtime: %v\n%s", r.program, r.subject.failures, r.subject.output)
		}
		if r.reference.pass() {
			wholeReference++
		}
		if r.subject.pass() {
			whole++
		}
	}
	t.Logf("%d of %d programs pass with gantry-runtime, %d with runc", whole, len(rows), wholeReference)
	if full && whole <= wholeReference {
		t.Errorf("gantry-runtime passes %d programs, runc %d: more is the bar", whole, wholeReference)
	}
}

// leftovers lists cgroups and mounts that a run could leave.
func leftovers(t *testing.T) (out []string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/*/gantry/*-*-*-*-*", "/sys/fs/cgroup/gantry/*-*-*-*-*", "/sys/fs/cgroup/*/testdir*", "/sys/fs/cgroup/*/*testcontainer*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(mounts)) {
		if strings.Contains(l, "/ocitest") {
			out = append(out, strings.TrimSpace(l))
		}
	}
	return out
}

// report writes the table.
func report(t *testing.T, rows []row) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# OCI validation\n\nThe validation programs of `" + suiteModule + "`, best of three runs each, against Debian's runc and against gantry-runtime.\n")
	b.WriteString("Made by `GANTRY_TEST_OCI=1 go test ./test/oci -run Validation -timeout 60m`. Numbers are TAP lines, passed/failed; a program passes\n")
	b.WriteString("as a whole when no line fails, it reports no error and ends with status 0.\n\n")
	b.WriteString("| program | runc | gantry-runtime | verdict |\n| --- | --- | --- | --- |\n")
	whole, wholeReference := 0, 0
	for _, r := range rows {
		verdict := "same"
		switch ref, sub := r.reference.pass(), r.subject.pass(); {
		case len(r.subject.lost(r.reference)) > 0 || ref && !sub:
			verdict = "**worse**"
		case sub && !ref:
			verdict = "better"
		case !sub:
			verdict = "both fail"
		}
		if r.reference.pass() {
			wholeReference++
		}
		if r.subject.pass() {
			whole++
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.program, cell(r.reference), cell(r.subject), verdict)
	}
	fmt.Fprintf(&b, "\nPrograms that pass as a whole: %d with runc, %d with gantry-runtime, of %d.\n", wholeReference, whole, len(rows))
	top, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, "docs", "oci-validation.md"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func cell(r *result) string {
	ok, bad := r.count()
	text := fmt.Sprintf("%d/%d", ok, bad)
	if len(r.failures) > 0 {
		text += ", " + strings.Join(r.failures, ", ")
	}
	return text
}
