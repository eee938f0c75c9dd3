package jsonfile

import (
	"bytes"
	"encoding/json"
	"maps"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gantry-engine/gantry/internal/spec"
)

func TestExactBytes(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.FixedZone("", 3600)).UnixNano()
	for _, c := range []struct {
		stream            spec.Stream
		line, attrs, want string
	}{
		{spec.Stdout, "hello\n", "", `{"log":"hello\n","stream":"stdout","time":"2026-01-02T02:04:05.0000006Z"}` + "\n"},
		{spec.Stderr, "a\t\"\\\x1b<&>\xff\u2028ü\r\n", `{"k":"v"}`, `{"log":"a\u0009\"\\\u001b\u003c\u0026\u003e\ufffd\u2028ü\r\n","stream":"stderr","attrs":{"k":"v"},"time":"2026-01-02T02:04:05.0000006Z"}` + "\n"},
	} {
		got := string(AppendEntry(nil, []byte(c.line), AppendSuffix(nil, c.stream, at, []byte(c.attrs))))
		if got != c.want {
			t.Errorf("got  %swant %s", got, c.want)
		}
	}
}

// FuzzRoundTrip: what is written is JSON, and is read back by both decoders as it was.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("x\n"), int64(1))
	f.Add([]byte("\xf0\x9f\x98\x80\x00\xff\u2029\"\\"), int64(1e18))
	f.Fuzz(func(t *testing.T, line []byte, at int64) {
		at &= 1<<62 - 1
		b := AppendEntry(nil, line, AppendSuffix(nil, spec.Stderr, at, nil))
		if !json.Valid(b) || bytes.IndexByte(b, '\n') != len(b)-1 {
			t.Fatalf("%q", b)
		}
		want := bytes.ToValidUTF8(line, []byte("\uFFFD"))
		if !utf8.Valid(line) { // one replacement for each bad byte
			want = []byte(string([]rune(string(line))))
		}
		var fast, general spec.LogEntry
		var d Decoder
		if slow(b, &general) != nil || !d.fast(bytes.Clone(b), &fast) {
			t.Fatalf("not read: %q", b)
		}
		if !bytes.Equal(fast.Line, want) || !bytes.Equal(general.Line, want) || !fast.Time.Equal(time.Unix(0, at)) || fast.Stream != spec.Stderr {
			t.Errorf("%q became %q and %q", line, fast.Line, general.Line)
		}
		// Read once more with its end remembered, and with another entry behind it.
		var again spec.LogEntry
		two := append(bytes.Clone(b), b...)
		if n, err := d.Next(two, &again); n != len(b) || err != nil || !bytes.Equal(again.Line, want) || again.Stream != spec.Stderr || !again.Time.Equal(fast.Time) {
			t.Errorf("%q: %d, %v, %+v", b, n, err, again)
		}
	})
}

// FuzzDecode: whatever the fast decoder accepts, the general one reads alike. first is
// decoded before, so that b meets a remembered end.
func FuzzDecode(f *testing.F) {
	const usual = `{"log":"a\u0041\n","stream":"stdout","time":"2026-01-02T02:04:05.6Z"}`
	f.Add([]byte(usual), []byte(usual))
	f.Add([]byte(usual), []byte(`{"log":"\\n","stream":"stdout","time":"2026-01-02T02:04:05.6Z"}`))
	f.Add([]byte(usual), []byte(`{"log":"a","log":"\n","stream":"stdout","time":"2026-01-02T02:04:05.6Z"}`))
	f.Add([]byte(`{"log":"a\n","stream":"stderr","attrs":{"a":",\"time\":\""},"time":"2026-01-02T02:04:05Z"}`),
		[]byte(`{"log":"\"\t\b\n","stream":"stderr","attrs":{"a":",\"time\":\""},"time":"2026-01-02T02:04:05Z"}`))
	f.Fuzz(func(t *testing.T, first, b []byte) {
		var d Decoder
		var fast, general spec.LogEntry
		_, _ = d.Next(append(bytes.Clone(first), '\n'), &fast)
		if bytes.IndexByte(b, '\n') >= 0 || !utf8.Valid(b) || !json.Valid(b) {
			_, _ = d.Next(append(bytes.Clone(b), '\n'), &fast)
			return
		}
		want := slow(b, &general)
		fast = spec.LogEntry{}
		n, err := d.Next(append(bytes.Clone(b), '\n'), &fast)
		if n != len(b)+1 || (err == nil) != (want == nil) {
			t.Fatalf("%q: size %d, %v, not %v", b, n, err, want)
		}
		if err == nil && (!bytes.Equal(fast.Line, general.Line) || fast.Stream != general.Stream || !fast.Time.Equal(general.Time) || !maps.Equal(fast.Attrs, general.Attrs)) {
			t.Errorf("%q: %+v and %+v", b, fast, general)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	var raw []byte
	suffix := AppendSuffix(nil, spec.Stdout, 1e18+123456789, nil)
	for range 1000 {
		raw = AppendEntry(raw, []byte("123456789\n"), suffix)
	}
	buf := make([]byte, len(raw))
	b.SetBytes(10 * 1000) // payload
	for b.Loop() {
		copy(buf, raw)
		var d Decoder
		var e spec.LogEntry
		for rest := buf; len(rest) > 0; {
			n, err := d.Next(rest, &e)
			if n == 0 || err != nil {
				b.Fatal(n, err)
			}
			rest = rest[n:]
		}
	}
}
