package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/logformat/jsonfile"
	"github.com/gantry-engine/gantry/internal/logformat/local"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
)

var base = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// lines encodes the numbered lines from a to b-1, one a second; odd ones on standard error.
func lines(driver string, a, b int) []byte {
	var out []byte
	for i := a; i < b; i++ {
		stream := spec.Stdout
		if i%2 == 1 {
			stream = spec.Stderr
		}
		at := base.Add(time.Duration(i) * time.Second).UnixNano()
		text := fmt.Appendf(nil, "line %d \"<\x01\n", i)
		if driver == "local" {
			out = local.Append(out, local.Record{Stream: stream, Time: at, Line: text})
		} else {
			out = jsonfile.AppendEntry(out, text, jsonfile.AppendSuffix(nil, stream, at, nil))
		}
	}
	return out
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if strings.HasSuffix(path, ".gz") {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(b)
		_ = w.Close()
		b = z.Bytes()
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func numbers(t *testing.T, cfg spec.LogConfig, o containers.LogOptions) (ns []int) {
	t.Helper()
	for e, err := range entries(New().Read(context.Background(), cfg, o, nil)) {
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscanf(string(e.Line), "line %d \"<\x01\n", &n); err != nil {
			t.Fatalf("entry %q: %v", e.Line, err)
		}
		if want := base.Add(time.Duration(n) * time.Second); !e.Time.Equal(want) {
			t.Errorf("time of %d is %v", n, e.Time)
		}
		ns = append(ns, n)
	}
	return ns
}

// entries takes batches apart.
func entries(batches iter.Seq2[[]containers.LogEntry, error]) iter.Seq2[containers.LogEntry, error] {
	return func(yield func(containers.LogEntry, error) bool) {
		for batch, err := range batches {
			if err != nil {
				yield(containers.LogEntry{}, err)
				return
			}
			for _, e := range batch {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

func span(a, b, step int) (ns []int) {
	for i := a; i < b; i += step {
		ns = append(ns, i)
	}
	return ns
}

func TestReadRotated(t *testing.T) {
	both := containers.LogOptions{Stdout: true, Stderr: true, Tail: -1}
	with := func(f func(*containers.LogOptions)) containers.LogOptions {
		o := both
		f(&o)
		return o
	}
	for _, driver := range []string{"json-file", "local"} {
		path := filepath.Join(t.TempDir(), "c.log")
		cfg := spec.LogConfig{Driver: driver, Path: path}
		write(t, path+".2.gz", lines(driver, 0, 100))
		write(t, path+".1", lines(driver, 100, 200))
		write(t, path, lines(driver, 200, 300))
		for _, c := range []struct {
			name string
			o    containers.LogOptions
			want []int
		}{
			{"all", both, span(0, 300, 1)},
			{"stdout", with(func(o *containers.LogOptions) { o.Stderr = false }), span(0, 300, 2)},
			{"stderr", with(func(o *containers.LogOptions) { o.Stdout = false }), span(1, 300, 2)},
			{"tail 0", with(func(o *containers.LogOptions) { o.Tail = 0 }), nil},
			{"tail 1", with(func(o *containers.LogOptions) { o.Tail = 1 }), span(299, 300, 1)},
			{"tail 100", with(func(o *containers.LogOptions) { o.Tail = 100 }), span(200, 300, 1)},
			{"tail 101", with(func(o *containers.LogOptions) { o.Tail = 101 }), span(199, 300, 1)},
			{"tail 250", with(func(o *containers.LogOptions) { o.Tail = 250 }), span(50, 300, 1)},
			{"tail 999", with(func(o *containers.LogOptions) { o.Tail = 999 }), span(0, 300, 1)},
			{"since", with(func(o *containers.LogOptions) { o.Since = base.Add(290 * time.Second) }), span(290, 300, 1)},
			{"until", with(func(o *containers.LogOptions) { o.Until = base.Add(9 * time.Second) }), span(0, 10, 1)},
		} {
			if got := numbers(t, cfg, c.o); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%s, %s: %v", driver, c.name, got)
			}
		}
	}
}

func TestFollowRotationAndTruncation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.log")
	cfg := spec.LogConfig{Driver: "json-file", Path: path}
	write(t, path, lines("json-file", 0, 10))
	ended := make(chan struct{})
	got := make(chan string, 1000)
	go func() {
		defer close(got)
		o := containers.LogOptions{Stdout: true, Stderr: true, Tail: 2, Follow: true}
		for e, err := range entries(New().Read(context.Background(), cfg, o, ended)) {
			if err != nil {
				got <- err.Error()
				return
			}
			got <- string(e.Line)
		}
	}()
	expect := func(a, b int) {
		t.Helper()
		for i := a; i < b; i++ {
			select {
			case s := <-got:
				if !strings.HasPrefix(s, fmt.Sprintf("line %d ", i)) {
					t.Fatalf("got %q instead of %d", s, i)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("line %d did not come", i)
			}
		}
	}
	add := func(a, b int) {
		f, _ := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		_, _ = f.Write(lines("json-file", a, b))
		_ = f.Close()
	}
	expect(8, 10)
	add(10, 20)
	expect(10, 20)
	add(20, 25)
	_ = os.Rename(path, path+".1")
	add(25, 30)
	expect(20, 30)
	// Two rotations at once.
	_ = os.Rename(path+".1", path+".2")
	_ = os.Rename(path, path+".1")
	add(30, 35)
	_ = os.Rename(path+".2", path+".3")
	_ = os.Rename(path+".1", path+".2")
	_ = os.Rename(path, path+".1")
	add(35, 40)
	expect(30, 40)
	_ = os.Truncate(path, 0)
	expectNothing(t, got)
	add(40, 41)
	expect(40, 41)
	add(41, 45)
	close(ended)
	expect(41, 45)
	if s, more := <-got; more {
		t.Errorf("after the end came %q", s)
	}
}

func expectNothing(t *testing.T, ch chan string) {
	t.Helper()
	select {
	case s := <-ch:
		t.Fatalf("%q came", s)
	case <-time.After(100 * time.Millisecond):
	}
}

func TestDamagedAndForeignLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.log")
	b := lines("json-file", 0, 2)
	b = append(b, "\x00\x00\x00"...)
	b = append(b, lines("json-file", 2, 3)...)
	b = append(b, `{"log":"torn`+"\n"...)
	b = append(b, lines("json-file", 3, 4)...)
	b = append(b, `{"log":"being writ`...)
	write(t, path, b)
	o := containers.LogOptions{Stdout: true, Stderr: true, Tail: -1}
	if got := numbers(t, spec.LogConfig{Driver: "json-file", Path: path}, o); fmt.Sprint(got) != "[0 1 2 3]" {
		t.Error(got)
	}
}

func TestReadable(t *testing.T) {
	err := New().Readable("none")
	if err == nil || !strings.HasPrefix(err.Error(), "configured logging driver does not support reading") {
		t.Error(err)
	}
	if err := New().Validate("json-file", map[string]string{"max-size": "0"}); err == nil {
		t.Error("a size of 0 was accepted")
	}
	if err := New().Validate("local", map[string]string{"nope": "1"}); err == nil {
		t.Error("an unknown option was accepted")
	}
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "c.log")
	var raw []byte
	for i := range 200000 {
		raw = jsonfile.AppendEntry(raw, fmt.Appendf(nil, "a usual line of output, number %d\n", i), jsonfile.AppendSuffix(nil, spec.Stdout, base.UnixNano()+int64(i), nil))
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		for _, err := range New().Read(context.Background(), spec.LogConfig{Driver: "json-file", Path: path}, containers.LogOptions{Stdout: true, Tail: -1}, nil) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
