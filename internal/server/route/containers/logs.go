package containers

import (
	"context"
	"fmt"
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
		if _, err := w.Write(l.take()); err != nil {
			return nil
		}
		if o.Follow { // whoever follows sees a line when it is there
			_ = flush()
		}
	}
	_, _ = w.Write(l.take())
	return nil
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

// take gives what was gathered, valid until more is added.
func (l *logEncoder) take() []byte {
	b := l.buf
	l.buf = l.buf[:0]
	return b
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
