package trouble

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestEachTroubleIsSaidOnce(t *testing.T) {
	var out bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})))
	defer slog.SetDefault(old)
	var l Log
	one, two := errors.New("one"), errors.New("two")
	for _, err := range []error{nil, one, one, two, nil, nil, one} {
		l.Say("it is broken", err)
	}
	l.Say("another", one)
	want := `level=WARN msg="it is broken" error=one
level=WARN msg="it is broken" error=two
level=INFO msg="no longer: it is broken"
level=WARN msg="it is broken" error=one
level=WARN msg=another error=one
`
	if got := out.String(); got != want {
		t.Errorf("logged:\n%s\nwant:\n%s", got, strings.TrimSpace(want))
	}
}
