package program

import (
	"bytes"
	"testing"
)

// What the writer wrote, the reader gives back, each string followed by a zero byte.
func TestRoundTrip(t *testing.T) {
	b := NewWriter().Begin(OpEnv).List([]string{"a=1", "", "c=3"}).Begin(OpHostname).Str("box").Num(7).Bool(true).Bytes()
	r := Reader{Buf: b}
	if n := r.U32(); n != len(b) {
		t.Fatalf("length %d, want %d", n, len(b))
	}
	if v := r.Num(); v != Version {
		t.Fatalf("version %d", v)
	}
	op, o := r.Next()
	if l := o.List(); op != OpEnv || len(l) != 3 || string(l[0]) != "a=1" || len(l[1]) != 0 || string(l[2]) != "c=3" || o.Bad {
		t.Errorf("instruction %d, list %q", op, l)
	}
	op, o = r.Next()
	s := o.Str()
	if op != OpHostname || string(s) != "box" || s[:4][3] != 0 || o.Num() != 7 || o.Num() != 1 || o.Bad {
		t.Errorf("instruction %d, name %q", op, s)
	}
	if op, _ = r.Next(); op != 0 || r.Bad {
		t.Errorf("instruction %d after the end, bad %v", op, r.Bad)
	}
	if o.Num(); !o.Bad {
		t.Error("reading past the end is not noticed")
	}
}

// The reader survives anything, never gives more than it was given, and ends.
func FuzzReader(f *testing.F) {
	f.Add(NewWriter().Begin(OpEnv).List([]string{"a", "b"}).Begin(OpHostname).Str("x").Bytes()[12:])
	f.Add([]byte{byte(OpEnv), 255, 255, 255, 255})
	f.Add([]byte{byte(OpEnv), 4, 0, 0, 0, 255, 255, 255, 127})
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := bytes.Clone(b)
		r := Reader{Buf: b}
		for {
			op, o := r.Next()
			if op == 0 {
				break
			}
			copied := o
			total := 0
			for _, s := range o.List() {
				total += len(s)
			}
			if total > len(b) || len(copied.Str()) > len(b) {
				t.Fatal("more came out than went in")
			}
			for !copied.Bad {
				copied.Num()
			}
		}
		if !bytes.Equal(whole, b) {
			t.Fatal("the reader wrote to its input")
		}
	})
}
