package containers

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
)

// logSource is a service with one log.
type logSource struct {
	Service
	stream containers.LogStream
	opts   containers.LogOptions
}

func (s *logSource) ReadLogs(_ context.Context, _ string, o containers.LogOptions) (containers.LogStream, error) {
	s.opts = o
	return s.stream, nil
}

func getLogs(t *testing.T, s *logSource, w http.ResponseWriter, query string) {
	t.Helper()
	r := httptest.NewRequest("GET", "/x?stdout=1&stderr=1&"+query, nil)
	if err := (streams{s}).logs(httpapi.WithVersion(t.Context(), "1.44"), w, r, httpapi.Vars{"id": "c"}); err != nil {
		t.Fatal(err)
	}
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 5, time.UTC)

// counted yields n numbered entries in batches of 100; odd ones are on standard error.
// The entries' memory is used again, as that of the driver is.
func counted(n int) containers.LogStream {
	return containers.LogStream{Batches: func(yield func([]containers.LogEntry, error) bool) {
		text := make([]byte, 0, 100*32)
		for i := 0; i < n; {
			batch := []containers.LogEntry{}
			text = text[:0]
			for ; i < n && len(batch) < 100; i++ {
				from := len(text)
				text = fmt.Appendf(text, "line %d\n", i)
				batch = append(batch, containers.LogEntry{Stream: spec.Stdout + spec.Stream(i%2), Time: noon.Add(time.Duration(i/3) * time.Second), Line: text[from:], Attrs: map[string]string{"k": "v"}})
			}
			if !yield(batch, nil) {
				return
			}
			clear(text[:cap(text)])
		}
	}}
}

func TestEachLogEntryIsAFrame(t *testing.T) {
	for _, c := range []struct{ n, follow int }{{0, 0}, {1, 0}, {250, 0}, {40000, 0}, {40000, 1}} {
		w := httptest.NewRecorder()
		getLogs(t, &logSource{stream: counted(c.n)}, w, fmt.Sprintf("follow=%d&timestamps=1&details=1", c.follow))
		b := w.Body.Bytes()
		for i := range c.n { // one frame for each entry: clients take a frame for a line
			if len(b) < 8 || b[0] != byte(1+i%2) {
				t.Fatalf("%d entries: frame %d: % x", c.n, i, b[:min(len(b), 16)])
			}
			size := 8 + int(binary.BigEndian.Uint32(b[4:8]))
			want := noon.Add(time.Duration(i/3)*time.Second).Format("2006-01-02T15:04:05.000000000Z") + fmt.Sprintf(" k=v line %d\n", i)
			if got := string(b[8:min(size, len(b))]); got != want {
				t.Fatalf("frame %d holds %q, not %q", i, got, want)
			}
			b = b[size:]
		}
		if len(b) > 0 {
			t.Errorf("%d bytes follow the last frame", len(b))
		}
	}
}

func TestLogOfATerminalIsRaw(t *testing.T) {
	s := counted(3)
	s.TTY = true
	w := httptest.NewRecorder()
	getLogs(t, &logSource{stream: s}, w, "")
	if got := w.Body.String(); got != "line 0\nline 1\nline 2\n" {
		t.Errorf("%q", got)
	}
}

func TestLogErrorIsTold(t *testing.T) {
	s := containers.LogStream{Batches: func(yield func([]containers.LogEntry, error) bool) {
		_ = yield([]containers.LogEntry{{Stream: spec.Stdout, Line: []byte("a\n")}}, nil) && yield(nil, errors.New("disk on fire"))
	}}
	w := httptest.NewRecorder()
	getLogs(t, &logSource{stream: s}, w, "follow=1")
	if got := w.Body.String(); !strings.HasSuffix(got, "Error grabbing logs: disk on fire\n") || !strings.Contains(got, "a\n\x02") {
		t.Errorf("%q", got)
	}
}

// brokenWriter fails after some writes, as the connection of a client that left.
type brokenWriter struct {
	http.ResponseWriter
	good int
}

func (w *brokenWriter) Write(b []byte) (int, error) {
	if w.good--; w.good < 0 {
		return 0, errors.New("broken pipe")
	}
	return len(b), nil
}

func TestLogEndsWhenTheClientLeft(t *testing.T) {
	for good := range 4 {
		given := 0
		s := containers.LogStream{Batches: func(yield func([]containers.LogEntry, error) bool) {
			line := bytes.Repeat([]byte{'x'}, logBlock)
			for ; given < 1000; given++ {
				if !yield([]containers.LogEntry{{Stream: spec.Stdout, Line: line}}, nil) {
					return
				}
			}
		}}
		getLogs(t, &logSource{stream: s}, &brokenWriter{httptest.NewRecorder(), good}, "")
		if given > good+3 {
			t.Errorf("after %d good writes, %d blocks were read", good, given)
		}
	}
}

// flushed counts what was written and flushed.
type flushed struct {
	http.ResponseWriter
	pending int
	seen    chan int
}

func (w *flushed) Write(b []byte) (int, error) { w.pending += len(b); return len(b), nil }
func (w *flushed) Flush()                      { w.seen <- w.pending }

// A line that came is with the client before the next one is waited for.
func TestFollowedLinesDoNotWait(t *testing.T) {
	w := &flushed{httptest.NewRecorder(), 0, make(chan int, 10)}
	s := containers.LogStream{Batches: func(yield func([]containers.LogEntry, error) bool) {
		for i := range 3 {
			if !yield([]containers.LogEntry{{Stream: spec.Stdout, Line: []byte("x\n")}}, nil) {
				return
			}
			for deadline := time.After(10 * time.Second); ; {
				select {
				case n := <-w.seen:
					if n == 10*(i+1) {
						break
					}
					continue
				case <-deadline:
					t.Errorf("line %d was not flushed", i)
					return
				}
				break
			}
		}
	}}
	getLogs(t, &logSource{stream: s}, w, "follow=1")
}
