package stdio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

func frameOf(stream byte, s string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{stream, 0, 0, 0}, uint32(len(s)))
	return append(b, s...)
}

// labelled tells in one text what was written to two outputs, and in which order.
type labelled struct {
	to    *strings.Builder
	label string
}

func (l labelled) Write(b []byte) (int, error) {
	l.to.WriteString(l.label + "(" + string(b) + ")")
	return len(b), nil
}

func TestDemux(t *testing.T) {
	join := func(fs ...[]byte) []byte { return bytes.Join(fs, nil) }
	for _, c := range []struct {
		name  string
		in    []byte
		apart bool
		want  string
		err   string
	}{
		{"frames of one stream go out together", join(frameOf(1, "a\n"), frameOf(1, "b\n"), frameOf(0, "c\n")), false, "out(a\nb\nc\n)", ""},
		{"order is kept", join(frameOf(1, "a"), frameOf(2, "x"), frameOf(1, "b"), frameOf(1, "c")), false, "out(a)err(x)out(bc)", ""},
		{"order cannot be seen", join(frameOf(1, "a"), frameOf(2, "x"), frameOf(1, "b"), frameOf(2, "y")), true, "out(ab)err(xy)", ""},
		{"empty frames", join(frameOf(1, ""), frameOf(2, ""), frameOf(1, "b")), false, "out(b)", ""},
		{"an error of the engine", join(frameOf(1, "a"), frameOf(3, "boom"), frameOf(1, "b")), false, "out(a)", "error from daemon in stream: boom"},
		{"no stream", join(frameOf(1, "a"), frameOf(9, "b")), false, "out(a)", "unrecognized stream: 9"},
		{"an end inside a header", join(frameOf(1, "a"), []byte{1, 0, 0}), false, "out(a)", ""},
		{"an end inside a frame", frameOf(1, "abc")[:10], false, "out(ab)", ""},
	} {
		var got strings.Builder
		err := Demux(labelled{&got, "out"}, labelled{&got, "err"}, bytes.NewReader(c.in), c.apart)
		if got.String() != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: %s, %v", c.name, got.String(), err)
		}
	}
}

// A reader that brings less than a frame at a time must not change what comes out; frames may be larger than all buffers.
func TestDemuxPieces(t *testing.T) {
	var in, want [2]bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n, stream := r.IntN(300), r.IntN(2)
		if r.IntN(50) == 0 {
			n = 3 * Block
		}
		b := bytes.Repeat([]byte{byte('a' + r.IntN(26))}, n)
		in[0].Write(frameOf(byte(stream+1), string(b)))
		want[stream].Write(b)
	}
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader, "end with data": iotest.DataErrReader,
	} {
		var out, errs bytes.Buffer
		if err := Demux(&out, &errs, wrap(bytes.NewReader(in[0].Bytes())), false); err != nil {
			t.Fatal(name, err)
		}
		if !bytes.Equal(out.Bytes(), want[0].Bytes()) || !bytes.Equal(errs.Bytes(), want[1].Bytes()) {
			t.Errorf("%s: %d and %d bytes, want %d and %d", name, out.Len(), errs.Len(), want[0].Len(), want[1].Len())
		}
	}
	boom := errors.New("boom")
	var out bytes.Buffer
	if err := Demux(&out, &out, io.MultiReader(bytes.NewReader(frameOf(1, "a")), iotest.ErrReader(boom)), false); !errors.Is(err, boom) || out.String() != "a" {
		t.Error(err, out.String())
	}
	if err := Demux(failing{}, failing{}, bytes.NewReader(frameOf(1, "a")), false); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// FuzzDemux: whole streams come out as the official library takes them apart.
func FuzzDemux(f *testing.F) {
	f.Add(append(frameOf(1, "a"), frameOf(2, "b")...))
	f.Add(append(frameOf(3, "a"), frameOf(2, "b")...))
	f.Fuzz(func(t *testing.T, in []byte) {
		for rest := in; len(rest) > 0; { // a frame cut short is the one thing that is treated differently
			if len(rest) < frameHeader || rest[0] <= frameNotice && len(rest)-frameHeader < int(binary.BigEndian.Uint32(rest[4:])) {
				return
			}
			if rest[0] > frameNotice {
				break
			}
			rest = rest[frameHeader+int(binary.BigEndian.Uint32(rest[4:])):]
		}
		var got, want [2]bytes.Buffer
		err := Demux(&got[0], &got[1], bytes.NewReader(in), true)
		_, werr := stdcopy.StdCopy(&want[0], &want[1], bytes.NewReader(in))
		if (err == nil) != (werr == nil) {
			t.Fatalf("%q: %v, not %v", in, err, werr)
		}
		for i := range got {
			if !bytes.Equal(got[i].Bytes(), want[i].Bytes()) {
				t.Errorf("%q: stream %d: %q, not %q", in, i+1, got[i].Bytes(), want[i].Bytes())
			}
		}
	})
}

func TestOutputsApart(t *testing.T) {
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.OpenFile(dir+"/"+name, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	for _, c := range []struct {
		out, err *os.File
		want     bool
	}{{open("a"), open("b"), true}, {open("a"), open("a"), false}} {
		if got := OutputsApart(&app.App{Out: app.NewOutput(c.out), Err: c.err}); got != c.want {
			t.Errorf("%s and %s: %v", c.out.Name(), c.err.Name(), got)
		}
	}
	if OutputsApart(&app.App{Out: app.NewOutput(&bytes.Buffer{}), Err: open("a")}) {
		t.Error("a buffer counts as a file")
	}
}
