package images

import (
	"bytes"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// What follows a transfer may be late: the client's answer is over then, and must not be written to.
func TestNothingIsToldAfterTheEnd(t *testing.T) {
	var out bytes.Buffer
	b := newBoard(NewProgress(&out, false))
	d := digest.FromString("x")
	b.step(d, "Waiting")
	if !strings.Contains(out.String(), "Waiting") {
		t.Fatalf("told: %s", out.String())
	}
	b.end()
	before := out.Len()
	b.step(d, "Download complete")
	b.bytes(d, "Downloading", 1, 2)
	b.complete(d)
	if out.Len() != before {
		t.Errorf("told after the end: %s", out.String()[before:])
	}
}
