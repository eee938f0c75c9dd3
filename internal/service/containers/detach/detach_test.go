package detach

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestKeys(t *testing.T) {
	for _, c := range []struct{ keys, typed, passed string }{
		{"", "ab\x10\x11cd", "ab"},
		{"", "\x10x\x10\x10\x11", "\x10x\x10"},
		{"ctrl-a,b", "x\x01b", "x"},
	} {
		keys, err := Parse(c.keys)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		d := NewReader(strings.NewReader(c.typed), keys)
		buf := make([]byte, 3)
		for err == nil {
			var n int
			n, err = d.Read(buf)
			got = append(got, buf[:n]...)
		}
		if err != ErrDetached || string(got) != c.passed {
			t.Errorf("%q: passed %q, %v; want %q", c.typed, got, err, c.passed)
		}
	}
	if _, err := Parse("ctrl-12"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad keys: %v", err)
	}
}
