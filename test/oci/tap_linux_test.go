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

// complaint is how a program without any TAP line reports a failed check: a YAML block of
// JSON, and exit status 0 all the same.
var complaint = regexp.MustCompile(`(?m)^\s*"error":\s*"(.*)"`)

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

// judgeOutput turns a program's output and how it ended into a result.
func judgeOutput(out string, ended error, timedOut bool) *result {
	r := &result{lines: parseTAP(out), output: out}
	switch {
	case timedOut:
		r.failures = append(r.failures, "did not end within "+programTimeout.String())
	case ended != nil && !errors.Is(ended, exec.ErrWaitDelay):
		r.failures = append(r.failures, ended.Error())
	}
	// With TAP lines the blocks explain them, and "error" is often the one that was wanted.
	if m := complaint.FindStringSubmatch(out); len(r.lines) == 0 && m != nil {
		text, _, _ := strings.Cut(m[1], `\n`)
		r.failures = append(r.failures, "reports an error: "+text)
	}
	return r
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

// pass tells whether the program passed as a whole: it ended with status 0 in time, no line is
// "not ok", and, where it prints no line at all, it reports no error.
func (r *result) pass() bool {
	_, bad := r.count()
	return bad == 0 && len(r.failures) == 0
}

// better prefers whole passes, then more passed lines, then fewer failed ones.
func (r *result) better(than *result) bool {
	if than == nil || r.pass() != than.pass() {
		return than == nil || r.pass()
	}
	ok, bad := r.count()
	thanOK, thanBad := than.count()
	return ok > thanOK || ok == thanOK && bad < thanBad
}

// passed counts each passed line's text.
func (r *result) passed() map[string]int {
	have := map[string]int{}
	for _, l := range r.lines {
		if l.ok {
			have[l.text]++
		}
	}
	return have
}

// lost lists the lines that reference passed and r did not, each as often as it is missing.
func (r *result) lost(reference *result) (out []string) {
	have := r.passed()
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
	r := judgeOutput(out.String(), err, ctx.Err() != nil)
	entries, _ := os.ReadDir(root)
	for _, e := range entries { // what the program forgot
		_ = exec.Command(script, "delete", "--force", e.Name()).Run()
	}
	return r
}
