// Package progress shows the engine's JSON progress streams (pull, push, load, import): one line per layer that
// is rewritten on a terminal, with bytes, rate and time left; plain lines elsewhere.
package progress

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
)

// message is the wire form, with the older error field that engines still send alone.
type message struct {
	jsonstream.Message
	OldError string `json:"error,omitempty"`
}

// Show prints a stream to its end, for a terminal with so many columns, or 0 for none. A message with an error ends it; aux,
// when given, gets side messages.
func Show(r io.Reader, w io.Writer, columns int, aux func(json.RawMessage)) error {
	dec := json.NewDecoder(r)
	d := &display{w: w, columns: columns, lines: map[string]*line{}, now: time.Now}
	for {
		var m message
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		switch {
		case m.Error != nil:
			return m.Error
		case m.OldError != "":
			return errors.New(m.OldError)
		case m.Aux != nil:
			if aux != nil {
				aux(*m.Aux)
			}
		case m.Stream != "":
			fmt.Fprint(w, m.Stream)
		case m.ID == "":
			fmt.Fprintln(w, m.Status)
			d.lines = map[string]*line{} // what was above is done
		default:
			d.part(m.ID, m.Status, m.Progress)
		}
	}
}

// display is the lines that are rewritten.
type display struct {
	w       io.Writer
	columns int
	lines   map[string]*line
	now     func() time.Time
}

// line is one part's.
type line struct {
	at     int // from the top
	status string
	begun  time.Time // when the status was first seen, at
	from   int64     // so many bytes
}

// part shows what happens to a layer.
func (d *display) part(id, status string, p *jsonstream.Progress) {
	if d.columns == 0 {
		if p == nil || p.Current <= 0 { // a line for every few bytes helps nobody
			fmt.Fprintf(d.w, "%s: %s\n", id, status)
		}
		return
	}
	l := d.lines[id]
	if l == nil {
		l = &line{at: len(d.lines)}
		d.lines[id] = l
		fmt.Fprint(d.w, "\n")
	}
	if l.status != status {
		l.status, l.begun, l.from = status, d.now(), 0
		if p != nil {
			l.from = p.Current
		}
	}
	text := id + ": " + status
	if p != nil {
		text += " " + bar(*p, d.columns-utf8.RuneCountInString(text)-2, d.now().Sub(l.begun), l.from)
	}
	if utf8.RuneCountInString(text) >= d.columns { // a line that wraps would not be rewritten
		text = string([]rune(text)[:d.columns-1])
	}
	up := len(d.lines) - l.at
	fmt.Fprintf(d.w, "\x1b[%dA\x1b[2K\r%s\r\x1b[%dB", up, text, up)
}

const maxBar = 50

// bar draws how far something is, on so many columns: the bar as far as there is room for it, the bytes, their rate and the
// time left since from of them were there.
func bar(p jsonstream.Progress, columns int, since time.Duration, from int64) string {
	if p.Current <= 0 && p.Total <= 0 {
		return ""
	}
	count := units.HumanSize(float64(p.Current))
	if p.Units != "" {
		count = fmt.Sprintf("%d %s", p.Current, p.Units)
	}
	if p.Total <= 0 || p.Current > p.Total {
		return fmt.Sprintf("%8v", count)
	}
	text := ""
	if !p.HideCounts {
		text = fmt.Sprintf("%8v/%v", count, units.HumanSize(float64(p.Total)))
	}
	if moved := p.Current - from; moved > 0 && since >= time.Second && p.Current < p.Total && p.Units == "" {
		rate := float64(moved) / since.Seconds()
		left := time.Duration(float64(p.Total-p.Current) / rate * float64(time.Second))
		text += fmt.Sprintf("  %s/s  %s left", units.HumanSize(rate), left.Round(time.Second))
	}
	width := min(maxBar, columns-len(text)-4)
	if width < 5 {
		return text
	}
	n := int(float64(p.Current) / float64(p.Total) * float64(width))
	return "[" + strings.Repeat("=", n) + ">" + strings.Repeat(" ", width-n) + "] " + text
}
