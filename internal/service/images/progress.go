package images

import (
	"encoding/json"
	"io"
	"path"
	"strings"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
)

// Progress tells a client what happens: a stream of JSON objects, one per line.
// The zero value is silent.
type Progress struct {
	w     io.Writer
	quiet bool
}

// NewProgress writes to w; flush is called after each message if not nil. With
// quiet, only results are told.
func NewProgress(w io.Writer, quiet bool) Progress { return Progress{w, quiet} }

func (p Progress) send(m jsonstream.Message) {
	if p.w == nil {
		return
	}
	b, err := json.Marshal(m)
	if err != nil {
		return
	}
	_, _ = p.w.Write(append(b, '\r', '\n')) // a client that has gone is noticed by the context
}

// Stream tells a result.
func (p Progress) Stream(text string) { p.send(jsonstream.Message{Stream: text}) }

// Status tells a result of an import.
func (p Progress) Status(text string) { p.send(jsonstream.Message{Status: text}) }

// Step tells what happens to a part.
func (p Progress) Step(id, status string) { p.send(jsonstream.Message{ID: id, Status: status}) }

// Aux tells a result that programs read.
func (p Progress) Aux(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		return
	}
	raw := json.RawMessage(b)
	p.send(jsonstream.Message{Aux: &raw})
}

// Layer counts a blob's bytes as they are read, and tells of them now and then.
func (p Progress) Layer(name string, size int64, r io.Reader) io.Reader {
	if p.w == nil || p.quiet || size < 1<<20 {
		return r
	}
	id := path.Base(name)
	if id == "layer.tar" {
		id = path.Base(path.Dir(name))
	}
	id = strings.TrimSuffix(id, ".tar")
	return &counted{p: p, r: r, id: id[:min(12, len(id))], size: size, next: time.Now()}
}

type counted struct {
	p    Progress
	r    io.Reader
	id   string
	done int64
	size int64
	next time.Time
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	if now := time.Now(); now.After(c.next) || c.done == c.size {
		c.next = now.Add(200 * time.Millisecond)
		c.p.send(jsonstream.Message{Status: "Loading layer", ID: c.id, Progress: &jsonstream.Progress{Current: c.done, Total: c.size}})
	}
	return n, err
}
