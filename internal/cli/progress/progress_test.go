package progress

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
)

const stream = `{"status":"Pulling from a/b","id":"1"}
{"status":"Pulling fs layer","id":"aaaaaaaaaaaa"}
{"status":"Pulling fs layer","id":"bbbbbbbbbbbb"}
{"status":"Downloading","progressDetail":{"current":1000000,"total":50000000},"id":"aaaaaaaaaaaa"}
{"status":"Download complete","id":"bbbbbbbbbbbb"}
{"status":"Downloading","progressDetail":{"current":50000000,"total":50000000},"id":"aaaaaaaaaaaa"}
{"status":"Digest: sha256:0"}
`

func TestWithoutATerminalThereAreLines(t *testing.T) {
	var out bytes.Buffer
	if err := Show(strings.NewReader(stream), &out, 0, nil); err != nil {
		t.Fatal(err)
	}
	want := "1: Pulling from a/b\naaaaaaaaaaaa: Pulling fs layer\nbbbbbbbbbbbb: Pulling fs layer\nbbbbbbbbbbbb: Download complete\nDigest: sha256:0\n"
	if out.String() != want {
		t.Errorf("shown\n%s\nwant\n%s", out.String(), want)
	}
}

// screen plays what is written on a terminal, as far as this package goes.
func screen(out string) []string {
	rows, y := []string{""}, 0
	for out != "" {
		if m := regexp.MustCompile(`^\x1b\[(\d+)([AB])`).FindStringSubmatch(out); m != nil {
			n := int(m[1][0] - '0')
			if m[2] == "A" {
				n = -n
			}
			y += n
			out = out[len(m[0]):]
			continue
		}
		if rest, ok := strings.CutPrefix(out, "\x1b[2K"); ok {
			rows[y], out = "", rest
			continue
		}
		switch out[0] {
		case '\n':
			y++
			for len(rows) <= y {
				rows = append(rows, "")
			}
		case '\r':
		default:
			rows[y] += string(out[0])
		}
		out = out[1:]
	}
	return rows
}

func TestOnATerminalLinesAreRewrittenAndNeverWrap(t *testing.T) {
	for _, columns := range []int{40, 80, 200} {
		var out bytes.Buffer
		if err := Show(strings.NewReader(stream), &out, columns, nil); err != nil {
			t.Fatal(err)
		}
		rows := screen(out.String())
		if len(rows) != 5 || rows[0] != "1: Pulling from a/b" || !strings.HasPrefix(rows[1], "aaaaaaaaaaaa: Downloading ") || rows[2] != "bbbbbbbbbbbb: Download complete" || rows[3] != "Digest: sha256:0" {
			t.Errorf("%d columns:\n%s", columns, strings.Join(rows, "\n"))
		}
		for _, r := range rows {
			if len(r) >= columns {
				t.Errorf("%d columns: a line has %d: %s", columns, len(r), r)
			}
		}
		if bar := strings.Contains(rows[1], "[="); !strings.Contains(rows[1], "50MB/50MB") || bar != (columns > 40) {
			t.Errorf("%d columns: %s", columns, rows[1])
		}
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct {
		p       jsonstream.Progress
		columns int
		since   time.Duration
		from    int64
		want    string
	}{
		{jsonstream.Progress{}, 100, 0, 0, ""},
		{jsonstream.Progress{Current: 10_000_000}, 100, 0, 0, "    10MB"},
		{jsonstream.Progress{Current: 10_000_000, Total: 40_000_000}, 40, 0, 0, "[=====>                  ]     10MB/40MB"},
		{jsonstream.Progress{Current: 10_000_000, Total: 40_000_000}, 20, 0, 0, "    10MB/40MB"},
		{jsonstream.Progress{Current: 10_000_000, Total: 40_000_000}, 60, 4 * time.Second, 2_000_000, "[======>                    ]     10MB/40MB  2MB/s  15s left"},
		{jsonstream.Progress{Current: 3, Total: 4, Units: "layers"}, 40, time.Minute, 0, "[==================>       ] 3 layers/4B"},
	} {
		if got := bar(c.p, c.columns, c.since, c.from); got != c.want {
			t.Errorf("%+v on %d columns: %q, want %q", c.p, c.columns, got, c.want)
		}
	}
}

func TestErrorsEndTheStream(t *testing.T) {
	for _, s := range []string{`{"errorDetail":{"message":"it broke"},"error":"it broke"}`, `{"error":"it broke"}`} {
		if err := Show(strings.NewReader(s+"\n"+stream), &bytes.Buffer{}, 0, nil); err == nil || err.Error() != "it broke" {
			t.Errorf("%s: %v", s, err)
		}
	}
}
