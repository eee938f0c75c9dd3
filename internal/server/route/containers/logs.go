package containers

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
)

// stampOf reads "since" and "until": seconds since 1970 with a fraction.
func stampOf(r *http.Request, name string) (time.Time, error) {
	v := r.FormValue(name)
	if v == "" || v == "0" {
		return time.Time{}, nil
	}
	whole, frac, _ := strings.Cut(v, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	var nano int64
	if err == nil && frac != "" {
		nano, err = strconv.ParseInt((frac + "000000000")[:9], 10, 64)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid value for %q: %q is not a number of seconds: %w", name, v, errdefs.ErrInvalidArgument)
	}
	return time.Unix(sec, nano), nil
}

func logOptions(r *http.Request) (o containers.LogOptions, err error) {
	o = containers.LogOptions{Stdout: httpapi.Bool(r, "stdout"), Stderr: httpapi.Bool(r, "stderr"), Follow: httpapi.Bool(r, "follow"), Tail: -1}
	if o.Since, err = stampOf(r, "since"); err != nil {
		return o, err
	}
	if o.Until, err = stampOf(r, "until"); err != nil {
		return o, err
	}
	// Whatever is no number means all, as with Docker.
	if n, err := strconv.Atoi(r.FormValue("tail")); err == nil && n >= 0 {
		o.Tail = n
	}
	return o, nil
}

// logBlock is how much of a log is gathered before it is written, in bytes. One batch more may come on top.
const logBlock = 64 << 10

func (s streams) logs(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	o, err := logOptions(r)
	if err != nil {
		return err
	}
	log, err := s.svc.ReadLogs(ctx, vars["id"], o)
	if err != nil {
		return err
	}
	media := httpapi.RawStream
	if !log.TTY && !older(ctx, "1.42") {
		media = httpapi.MultiplexedStream
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	_ = flush()
	l := logEncoder{raw: log.TTY, stamps: httpapi.Bool(r, "timestamps"), details: httpapi.Bool(r, "details")}
	out := logPump{w: w}
	if o.Follow { // whoever follows sees a line when it is there
		out.flush = flush
	}
	defer out.finish()
	for batch, err := range log.Batches {
		if err != nil {
			if !log.TTY && ctx.Err() == nil {
				l.add([]containers.LogEntry{{Stream: spec.Stderr, Line: fmt.Appendf(nil, "Error grabbing logs: %s\n", err)}})
			}
			break
		}
		l.add(batch)
		if len(l.buf) < logBlock && !o.Follow {
			continue
		}
		if l.buf = out.write(l.buf); l.buf == nil {
			return nil // the client left
		}
	}
	out.last(l.buf)
	return nil
}

// logPump writes one buffer to a client while the next one is filled. A log that fits
// into one buffer does without the goroutine for it.
type logPump struct {
	w          io.Writer
	flush      func() error // after each write; may be nil
	full, free chan []byte  // nil until the first write
	done       chan struct{}
}

// write hands a buffer over and gives an empty one, or nil when the client has left.
func (p *logPump) write(b []byte) []byte {
	if p.full == nil {
		p.full, p.free, p.done = make(chan []byte), make(chan []byte, 2), make(chan struct{})
		p.free <- []byte{}
		go p.run()
	}
	select {
	case p.full <- b:
		return <-p.free
	case <-p.done:
		return nil
	}
}

// last writes the last buffer.
func (p *logPump) last(b []byte) {
	switch {
	case len(b) == 0:
	case p.full == nil:
		_, _ = p.w.Write(b)
	default:
		p.write(b)
	}
}

func (p *logPump) run() {
	defer close(p.done)
	for b := range p.full {
		if _, err := p.w.Write(b); err != nil {
			p.free <- nil
			return
		}
		if p.flush != nil {
			_ = p.flush()
		}
		p.free <- b[:0]
	}
}

// finish waits until everything is written: the answer must not be touched after its handler.
func (p *logPump) finish() {
	if p.full != nil {
		close(p.full)
		<-p.done
	}
}

// logEncoder gathers log entries as clients get them: one frame each, or raw text of
// a terminal. Clients take a frame for a line, so entries never share one.
type logEncoder struct {
	raw, stamps, details bool

	buf   []byte
	head  []byte    // what stands in front of a line
	stamp []byte    // when, as text: lines printed together share it
	at    time.Time // what stamp tells
}

func (l *logEncoder) add(batch []containers.LogEntry) {
	if l.raw || l.stamps || l.details {
		for i := range batch {
			l.decorated(&batch[i])
		}
		return
	}
	buf := l.buf
	for i := range batch {
		e := &batch[i]
		buf = httpapi.AppendFrameHeader(buf, byte(e.Stream), len(e.Line))
		buf = append(buf, e.Line...)
	}
	l.buf = buf
}

// decorated adds an entry with what stands in front of it.
func (l *logEncoder) decorated(e *containers.LogEntry) {
	l.head = l.head[:0]
	if l.stamps {
		if len(l.stamp) == 0 || !e.Time.Equal(l.at) {
			l.at = e.Time
			l.stamp = append(e.Time.UTC().AppendFormat(l.stamp[:0], "2006-01-02T15:04:05.000000000Z07:00"), ' ')
		}
		l.head = append(l.head, l.stamp...)
	}
	if l.details {
		l.head = append(appendAttrs(l.head, e.Attrs), ' ')
	}
	if !l.raw {
		l.buf = httpapi.AppendFrameHeader(l.buf, byte(e.Stream), len(l.head)+len(e.Line))
	}
	l.buf = append(append(l.buf, l.head...), e.Line...)
}
