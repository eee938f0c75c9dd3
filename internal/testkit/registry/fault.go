package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Fault is what goes wrong with some requests. The first one that fits a request and is not used up counts.
type Fault struct {
	Method string // "" is each
	Path   string // a regular expression, found somewhere in the path
	Skip   int    // so many requests that fit are answered well before
	Times  int    // for so many requests; 0 is for all

	Status   int               // answer so, with Body as text
	Body     string            //
	Header   map[string]string // say so in the answer, whatever is true; an empty value leaves a field out
	Redirect bool              // send the client to the same place again
	Delay    time.Duration     // wait before the answer
	Cut      int64             // after so many bytes of an answer, or of a PATCH, close the connection; -1 is before the first one
	Hang     bool              // do not answer at all, or with Cut: leave the connection open and say nothing more
	Wrong    bool              // give other bytes than those of the digest
	More     int64             // give so many bytes more
	NoRange  bool              // give all where a part is asked for
	Forget   bool              // forget the upload session
}

// Break adds faults.
func (r *Registry) Break(faults ...Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range faults {
		r.faults = append(r.faults, &f)
	}
}

// Mend ends all faults.
func (r *Registry) Mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

func (r *Registry) faultFor(req *http.Request) Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, f := range r.faults {
		if f.Method != "" && f.Method != req.Method || !regexp.MustCompile(f.Path).MatchString(req.URL.Path) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times == 1 {
			r.faults = append(r.faults[:i:i], r.faults[i+1:]...)
		}
		f.Times--
		return *f
	}
	return Fault{}
}

// answer writes an answer as its fault wants it, and notes what went out.
type answer struct {
	http.ResponseWriter
	r     *Registry
	req   *http.Request
	fault Fault
	entry *Request
}

// misbehaves does what needs no look at the request; it tells whether that was the answer.
func (a *answer) misbehaves() bool {
	if a.fault.Delay > 0 {
		select {
		case <-time.After(a.fault.Delay):
		case <-a.req.Context().Done():
		}
	}
	switch {
	case a.fault.Hang && a.fault.Cut == 0:
		a.breakOff()
	case a.fault.Redirect:
		a.Header().Set("Location", a.req.URL.String())
		a.send(http.StatusTemporaryRedirect, nil)
	case a.fault.Status != 0:
		if a.fault.Body != "" {
			a.Header().Set("Content-Type", "application/json")
			if !strings.HasPrefix(a.fault.Body, "{") {
				a.Header().Set("Content-Type", "text/plain")
			}
		}
		a.send(a.fault.Status, []byte(a.fault.Body))
	default:
		return false
	}
	return true
}

// breakOff ends an answer before its end.
func (a *answer) breakOff() {
	if a.fault.Hang {
		select {
		case <-a.req.Context().Done():
		case <-a.r.closing:
		}
	}
	panic(http.ErrAbortHandler)
}

// refuse answers with an error of the protocol.
func (a *answer) refuse(status int, code, message string) {
	body, _ := json.Marshal(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
	a.Header().Set("Content-Type", "application/json")
	a.send(status, body)
}

// unsupported refuses a method.
func (a *answer) unsupported() {
	a.refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported")
}

// reads tells whether a request is GET or HEAD; if not, it is refused.
func (a *answer) reads() bool {
	if a.req.Method == http.MethodGet || a.req.Method == http.MethodHead {
		return true
	}
	a.unsupported()
	return false
}

// content answers with a blob or a manifest, or with the part of it that was asked for.
func (a *answer) content(mediaType string, d digest.Digest, b []byte) {
	if a.fault.Wrong {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 0xff
	}
	a.Header().Set("Content-Type", mediaType)
	a.Header().Set("Docker-Content-Digest", d.String())
	from, to := int64(0), int64(len(b))
	status := http.StatusOK
	if rg, ok := strings.CutPrefix(a.req.Header.Get("Range"), "bytes="); ok && !a.fault.NoRange {
		first, last, _ := strings.Cut(rg, "-")
		from, _ = strconv.ParseInt(first, 10, 64)
		if n, err := strconv.ParseInt(last, 10, 64); err == nil {
			to = min(to, n+1)
		}
		if n, err := strconv.ParseInt(last, 10, 64); err == nil && first == "" { // the last n bytes
			from, to = max(0, int64(len(b))-n), int64(len(b))
		}
		if from >= to {
			a.refuse(http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "there is nothing")
			return
		}
		status = http.StatusPartialContent
		a.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(b)))
	}
	a.r.mu.Lock()
	a.entry.Offset = from
	a.r.mu.Unlock()
	a.send(status, b[from:to])
}

// send writes head and body, until the fault cuts it off.
func (a *answer) send(status int, b []byte) {
	more := int64(0)
	if status == http.StatusOK || status == http.StatusPartialContent {
		more = a.fault.More
	}
	if status != http.StatusNoContent {
		a.Header().Set("Content-Length", strconv.FormatInt(int64(len(b))+more, 10))
	}
	for k, v := range a.fault.Header {
		a.Header().Set(k, v)
		if v == "" {
			a.Header().Del(k)
		}
	}
	a.r.mu.Lock()
	a.entry.Status = status
	a.r.mu.Unlock()
	a.WriteHeader(status)
	if a.req.Method == http.MethodHead {
		return
	}
	flush := a.ResponseWriter.(http.Flusher).Flush
	flush()
	if cut := a.fault.Cut; cut != 0 && a.req.Method == http.MethodGet {
		kept := b[:min(int64(len(b)), max(0, cut))]
		a.write(kept)
		flush()
		if len(kept) < len(b) {
			a.breakOff()
		}
		b = nil
	}
	if !a.write(b) {
		return
	}
	for zeros := make([]byte, 32<<10); more > 0; more -= int64(len(zeros)) {
		if !a.write(zeros[:min(more, int64(len(zeros)))]) {
			return
		}
	}
}

// write counts before it writes: who has read all may look at the log at once.
func (a *answer) write(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), 32<<10)
		a.sent(int64(n))
		w, err := a.Write(b[:n])
		if err != nil {
			a.sent(int64(w - n))
			return false
		}
		b = b[n:]
	}
	return true
}

func (a *answer) sent(n int64) {
	a.r.mu.Lock()
	a.entry.Bytes += n
	a.r.mu.Unlock()
}
