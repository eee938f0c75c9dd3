package oci

import (
	"errors"
	"slices"
	"testing"
)

func TestWholePass(t *testing.T) {
	for name, c := range map[string]struct {
		out   string
		ended error
		late  bool
		want  bool
	}{
		"lines":                       {"TAP version 13\nok 1 - a\n  ok 2 - b\n1..2\n", nil, false, true},
		"a line fails":                {"ok 1 - a\nnot ok 2 - b\n", nil, false, false},
		"all well, but the status":    {"ok 1 - a\n", errors.New("exit status 1"), false, false},
		"all well, but too late":      {"ok 1 - a\n", nil, true, false},
		"an error explains a line":    {"ok 1 - refuses\n  ---\n  {\n    \"error\": \"exit status 1\"\n  }\n", nil, false, true},
		"no line, no complaint":       {"TAP version 13\n1..0\n", nil, false, true},
		"no line, only diagnostics":   {"TAP version 13\n  ---\n  {\n    \"error\": \"Hooks MUST be called\\nRefer to: x\"\n  }\n1..0\n", nil, false, false},
		"no line, it could not start": {"", errors.New("exit status 1"), false, false},
	} {
		if got := judgeOutput(c.out, c.ended, c.late).pass(); got != c.want {
			t.Errorf("%s: pass is %v", name, got)
		}
	}
}

func TestLostLines(t *testing.T) {
	reference := judgeOutput("ok 1 - a\nok 2 - a\nok 3 - b\nnot ok 4 - c\n", nil, false)
	subject := judgeOutput("ok 1 - a\nnot ok 2 - b\nok 3 - c\n", nil, false)
	if got := subject.lost(reference); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("lost: %q", got)
	}
}

// TestLinesOfARefusal: what a container prints that should never have been started counts only if
// the subject passes it nowhere else.
func TestLinesOfARefusal(t *testing.T) {
	pass := func(out string) *result { return judgeOutput(out, nil, false) }
	rows := []row{
		{program: "plain", reference: pass("ok 1 - inside\n"), subject: pass("ok 1 - inside\n")},
		{program: "refuse", reference: judgeOutput("ok 1 - inside\nok 2 - inside\nok 3 - elsewhere never\n", errors.New("exit status 1"), false), subject: pass("")},
		{program: "worse", reference: pass("ok 1 - inside\n"), subject: pass("not ok 1 - inside\n")},
	}
	compare(rows)
	if rows[1].moot != 2 || !slices.Equal(rows[1].lost, []string{"elsewhere never"}) {
		t.Errorf("refuse: %d moot, lost %q", rows[1].moot, rows[1].lost)
	}
	if rows[2].moot != 0 || len(rows[2].lost) != 1 || rows[2].verdict() != "**worse**" {
		t.Errorf("worse: %+v", rows[2])
	}
}

// TestRacesCountForNobody: what is luck neither helps nor hurts.
func TestRacesCountForNobody(t *testing.T) {
	good, bad := judgeOutput("ok 1 - a\n", nil, false), judgeOutput("not ok 1 - a\n", nil, false)
	rows := []row{{program: "pidfile", reference: good, subject: bad}, {program: "pidfile", reference: bad, subject: good}}
	compare(rows)
	if reference, subject, compared := whole(rows); reference+subject+compared != 0 || len(rows[0].lost) != 0 || rows[0].verdict() != rows[1].verdict() {
		t.Errorf("%d %d %+v", reference, subject, rows)
	}
}
