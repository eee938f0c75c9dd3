package jsonfile

import (
	"bytes"
	"encoding/json"
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
		var fast, slow Entry
		var d, d2 Decoder
		if !d.fast(b[:len(b)-1], &fast) || d2.slow(b, &slow) != nil {
			t.Fatalf("not read: %q", b)
		}
		if !bytes.Equal(fast.Line, want) || !bytes.Equal(slow.Line, want) || !fast.Time.Equal(time.Unix(0, at)) || fast.Stream != spec.Stderr {
			t.Errorf("%q became %q and %q", line, fast.Line, slow.Line)
		}
	})
}

// FuzzDecode: whatever the fast decoder accepts, the general one reads alike.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"log":"a\u0041","stream":"stdout","time":"2026-01-02T02:04:05.6Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d, d2 Decoder
		var fast, slow Entry
		_ = d.Decode(b, &fast)
		if bytes.IndexByte(b, '\n') < 0 && utf8.Valid(b) && json.Valid(b) && d.fast(b, &fast) && d2.slow(b, &slow) == nil {
			if !bytes.Equal(fast.Line, slow.Line) || fast.Stream != slow.Stream || !fast.Time.Equal(slow.Time) {
				t.Errorf("%q: %+v and %+v", b, fast, slow)
			}
		}
	})
}
