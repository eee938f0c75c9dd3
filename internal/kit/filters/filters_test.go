package filters

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		`{"label":{"b":true,"a=1":true}}`: "a=1 b",
		`{"label":["b","a=1","b"]}`:       "a=1 b",
	} {
		a, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := a["label"][0] + " " + a["label"][1]; got != want || len(a["label"]) != 2 {
			t.Errorf("%s: %v", in, a)
		}
	}
	if _, err := Parse(`[1`); !errdefs.IsInvalidArgument(err) {
		t.Errorf("garbage: %v", err)
	}
	if a, err := Parse(""); err != nil || !a.Exact("x", "y") {
		t.Errorf("empty: %v %v", a, err)
	}
}

func TestMatching(t *testing.T) {
	a := Args{"name": {"^web"}, "label": {"a=1", "b"}, "dangling": {"true"}, "odd": {"maybe"}}
	if !a.Match("name", "web-1") || a.Match("name", "a-web") || !a.Match("other", "x") {
		t.Error("Match")
	}
	if !a.Labels("label", map[string]string{"a": "1", "b": ""}) || a.Labels("label", map[string]string{"a": "2", "b": ""}) {
		t.Error("Labels")
	}
	if a.NoLabels("label", map[string]string{"b": "x"}) || !a.NoLabels("label", map[string]string{"a": "2"}) {
		t.Error("NoLabels")
	}
	if v, err := a.Bool("dangling", false); err != nil || !v {
		t.Error("Bool")
	}
	if _, err := a.Bool("odd", false); !errdefs.IsInvalidArgument(err) {
		t.Error("Bool of nonsense")
	}
	if err := a.Check("name", "label", "dangling"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("Check: %v", err)
	}
}

func TestUntil(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for in, want := range map[string]time.Time{
		"1h": now.Add(-time.Hour), "1600000000": time.Unix(1_600_000_000, 0), "1600000000.5": time.Unix(1_600_000_000, 5e8),
		"2020-01-02T03:04:05Z": time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), "2020-01-02": time.Date(2020, 1, 2, 0, 0, 0, 0, time.Local),
	} {
		if got, err := (Args{"until": {in}}).Until(now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v %v, want %v", in, got, err, want)
		}
	}
}
