package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// row is one program beside the reference.
type row struct {
	program            string
	reference, subject *result
	lost               []string // lines that the reference passes and the subject does not
	moot               int      // lines of the reference that could appear only because it failed
}

// races are programs whose result is luck, whatever the runtime: they are shown and not compared.
var races = map[string]bool{"pidfile": true}

// compare fills in lost and moot. A program that passes with the subject and fails with the
// reference can print less: it ends when a runtime refuses what must be refused, and otherwise prints what
// the container says that should never have been started. Such a line is moot if the subject
// passes the same line in a program of which both run the whole, and lost if it does not.
func compare(rows []row) {
	elsewhere := map[string]bool{}
	for _, r := range rows {
		if !r.reference.pass() {
			continue
		}
		for text := range r.subject.passed() {
			elsewhere[text] = true
		}
	}
	for i := range rows {
		r := &rows[i]
		if races[r.program] {
			continue
		}
		missing := r.subject.lost(r.reference)
		if !r.subject.pass() || r.reference.pass() {
			r.lost = missing
			continue
		}
		for _, l := range missing {
			if elsewhere[l] {
				r.moot++
			} else {
				r.lost = append(r.lost, l)
			}
		}
	}
}

// whole counts the programs that pass as a whole, of those compared.
func whole(rows []row) (reference, subject, compared int) {
	for _, r := range rows {
		if races[r.program] {
			continue
		}
		compared++
		if r.reference.pass() {
			reference++
		}
		if r.subject.pass() {
			subject++
		}
	}
	return reference, subject, compared
}

func (r *row) verdict() string {
	ref, sub := r.reference.pass(), r.subject.pass()
	refOK, _ := r.reference.count()
	subOK, _ := r.subject.count()
	switch {
	case races[r.program]:
		return "a race, not compared"
	case len(r.lost) > 0 || ref && !sub:
		return "**worse**"
	case sub && !ref && r.moot > 0:
		return fmt.Sprintf("better (%d lines moot)", r.moot)
	case sub && !ref:
		return "better"
	case sub:
		return "same"
	case subOK > refOK:
		return "both fail, more lines pass"
	}
	return "both fail"
}

func cell(r *result) string {
	ok, bad := r.count()
	text := fmt.Sprintf("%d/%d", ok, bad)
	if r.pass() {
		return text + " ✓"
	}
	if len(r.failures) > 0 {
		text += ", " + strings.Join(r.failures, ", ")
	}
	return text
}

const rules = `
## How it is counted

- A *line* is a program's name with the text of a TAP line (` + "`ok` or `not ok`" + `), numbers, ids and directories of the run taken out. A line that a program prints several times
  must pass as often as it does with runc.
- A program *passes as a whole* (✓) when it ends with status 0 within a minute, no line is ` + "`not ok`" + `, and, if it prints no line at all, it reports no ` + "`\"error\":`" + ` in its
  diagnostics. Some programs say only by their exit status or their diagnostics whether they are content; those with TAP lines also use the word to explain a line that
  passed. A program that cannot start its container and exits with another status fails.
- Each program runs up to three times with each runtime; the best run counts: a whole pass, else the one with most passed lines.
- A program that gantry-runtime passes as a whole and runc does not may print fewer lines: process_capabilities_fail expects that create is refused, and when it is not, prints what
  the container says that should not exist. Such lines are *moot* if gantry-runtime passes the same text in another program that passes with runc too. Any other line that runc
  passes and gantry-runtime does not makes the test fail.
- pidfile is a race: it starts ` + "`true`" + ` and asks that killing it afterwards succeeds. With either runtime it fails on a quiet machine and sometimes passes on a busy one. It is shown,
  and neither its line nor the program counts for anybody.
`

const differences = `
## Under other engines

The same package starts Debian's dockerd (` + "`--add-runtime`" + `) and podman (` + "`--runtime`" + `) with gantry-runtime and with runc and compares what %d and %d scripts print and
end with: run, create, start, exec, stop, kill, restart, pause, update, terminals, init, limits, masks, mounts, health checks, out of memory (TestUnderDocker, TestUnderPodman;
all of them with ` + "`GANTRY_TEST_OCI=1`" + `). Flags, and the members of what is printed as JSON, are compared with runc's in cmd/gantry-runtime.

## Where it differs from runc on purpose

| | runc 1.1 | gantry-runtime |
| --- | --- | --- |
| delete of a created container | kills it | refuses without --force, as the specification demands |
| start | returns when it has opened the gate | returns when the program executes, or says what kept it from executing: a failed startContainer hook, for one |
| poststart hooks | run by create; a failure undoes it | run by start; a failure is a warning |
| device rules on cgroup v1 | sorted | in the order given |
| memory.kernelTCP | ignored | applied |
| masked files, masked folders, the folder of cgroups | writable mounts | read-only mounts |
| network_interfaces of events | none | the interfaces in the container's network namespace |
| systemd as cgroup driver, checkpoint, restore, resource director technology | supported | refused |
`

// report writes docs/oci-validation.md.
func report(t *testing.T, rows []row) {
	t.Helper()
	var b strings.Builder
	reference, subject, compared := whole(rows)
	refLines, subLines, lost := 0, 0, 0
	for _, r := range rows {
		if races[r.program] {
			continue
		}
		ok, _ := r.reference.count()
		refLines += ok
		ok, _ = r.subject.count()
		subLines += ok
		lost += len(r.lost)
	}
	b.WriteString("# OCI validation\n\nThe validation programs of `" + suiteModule + "`\nagainst Debian's runc and against gantry-runtime, on one machine in one run.\n")
	b.WriteString("Made by `GANTRY_TEST_OCI=1 go test ./test/oci -run Validation -timeout 60m`, which fails when anything is worse than with runc or fails without a reason below.\n\n")
	fmt.Fprintf(&b, "| | runc | gantry-runtime |\n| --- | --- | --- |\n| programs that pass as a whole, of %d | %d | %d |\n| lines passed | %d | %d |\n| lines that runc passes and gantry-runtime does not | | %d |\n",
		compared, reference, subject, refLines, subLines, lost)
	b.WriteString(rules)
	b.WriteString("\n## Programs\n\nNumbers are TAP lines, passed/failed.\n\n| program | runc | gantry-runtime | verdict |\n| --- | --- | --- | --- |\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.program, cell(r.reference), cell(r.subject), r.verdict())
	}
	b.WriteString("\n## Why the others fail\n\n| program | reason |\n| --- | --- |\n")
	for _, r := range rows {
		if !r.subject.pass() && why(r.program) != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", r.program, why(r.program))
		}
	}
	fmt.Fprintf(&b, differences, len(foreign)+len(dockerOnly), len(podmanScenarios()))
	top, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, "docs", "oci-validation.md"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
