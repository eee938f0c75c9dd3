package oci

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

const programTimeout = 60 * time.Second

// result is what a program said in one run.
type result struct {
	lines    []tapLine
	failures []string // what went wrong outside of TAP lines
	output   string
}

type tapLine struct {
	ok   bool
	text string
}

var tapPattern = regexp.MustCompile(`^\s*(not )?ok\s+\d+\s*(?:- )?(.*)$`)

// volatile is what differs from run to run in the texts of TAP lines.
var volatile = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|ocitest\d+|\b(pid|PID) \d+\b`)

func parseTAP(out string) (lines []tapLine) {
	for _, l := range strings.Split(out, "\n") {
		m := tapPattern.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		lines = append(lines, tapLine{ok: m[1] == "", text: volatile.ReplaceAllString(strings.TrimSpace(m[2]), "*")})
	}
	return lines
}

// count gives the number of passed and failed lines.
func (r *result) count() (ok, bad int) {
	for _, l := range r.lines {
		if l.ok {
			ok++
		} else {
			bad++
		}
	}
	return ok, bad
}

// pass tells whether the program passed as a whole: it ended well, complained of
// nothing, and no line is "not ok". Programs without any line complain in a YAML block.
func (r *result) pass() bool {
	_, bad := r.count()
	return bad == 0 && len(r.failures) == 0
}

// better prefers whole passes, then fewer failed lines, then more passed ones.
func (r *result) better(than *result) bool {
	if than == nil || r.pass() != than.pass() {
		return than == nil || r.pass()
	}
	ok, bad := r.count()
	thanOK, thanBad := than.count()
	return ok-bad > thanOK-thanBad
}

// lost lists the lines that reference passed and r did not, as multiset. A program that
// passes here as a whole and not with the reference loses nothing: some tests end early when a runtime
// refuses what it must refuse, and say more when it does not.
func (r *result) lost(reference *result) (out []string) {
	if r.pass() && !reference.pass() {
		return nil
	}
	have := map[string]int{}
	for _, l := range r.lines {
		if l.ok {
			have[l.text]++
		}
	}
	for _, l := range reference.lines {
		if !l.ok {
			continue
		}
		if have[l.text]--; have[l.text] < 0 {
			out = append(out, l.text)
		}
	}
	return out
}

// run executes one program in a process group of its own and cleans up after it.
func (s *suite) run(program, script, root string) *result {
	ctx, cancel := context.WithTimeout(context.Background(), programTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "programs", program))
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "RUNTIME="+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	r := &result{lines: parseTAP(out.String()), output: out.String()}
	switch {
	case ctx.Err() != nil:
		r.failures = append(r.failures, "did not end within "+programTimeout.String())
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		r.failures = append(r.failures, err.Error())
	}
	if len(r.lines) == 0 && strings.Contains(out.String(), "error:") {
		r.failures = append(r.failures, "reports an error")
	}
	entries, _ := os.ReadDir(root)
	for _, e := range entries { // what the program forgot
		_ = exec.Command(script, "delete", "--force", e.Name()).Run()
	}
	return r
}
