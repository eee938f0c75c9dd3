// Package progress shows the engine's JSON progress streams (pull, push, load, import): one line per layer that
// is rewritten on a terminal, plain lines elsewhere.
package progress

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
)

// message is the wire form, with the older error field that engines still send alone.
type message struct {
	jsonstream.Message
	OldError string `json:"error,omitempty"`
}

// Show prints a stream to its end. A message with an error ends it; aux, when given, gets side messages.
func Show(r io.Reader, w io.Writer, tty bool, aux func(json.RawMessage)) error {
	dec := json.NewDecoder(r)
	lines, count := map[string]int{}, 0
	for {
		var m message
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if m.Error != nil {
			return m.Error
		}
		if m.OldError != "" {
			return errors.New(m.OldError)
		}
		if m.Aux != nil {
			if aux != nil {
				aux(*m.Aux)
			}
			continue
		}
		if m.ID == "" || m.Progress == nil && !tty {
			if m.ID == "" {
				lines = map[string]int{}
				count = 0
			}
			show(w, m, false)
			continue
		}
		if !tty {
			if m.Progress != nil && m.Progress.Current > 0 {
				continue // a line for every few bytes helps nobody
			}
			show(w, m, false)
			continue
		}
		n, known := lines[m.ID]
		if !known {
			n = count
			lines[m.ID] = n
			count++
			fmt.Fprint(w, "\n")
		}
		up := count - n
		fmt.Fprintf(w, "\x1b[%dA", up)
		show(w, m, true)
		fmt.Fprintf(w, "\x1b[%dB", up)
	}
}

func show(w io.Writer, m message, tty bool) {
	end := "\n"
	if tty {
		fmt.Fprint(w, "\x1b[2K\r")
		end = "\r"
	}
	if m.Stream != "" {
		fmt.Fprint(w, m.Stream)
		return
	}
	if m.ID != "" {
		fmt.Fprintf(w, "%s: ", m.ID)
	}
	fmt.Fprint(w, m.Status)
	if tty && m.Progress != nil {
		fmt.Fprint(w, " "+bar(*m.Progress))
	}
	fmt.Fprint(w, end)
}

func bar(p jsonstream.Progress) string {
	if p.Current <= 0 && p.Total <= 0 {
		return ""
	}
	cur := units.HumanSize(float64(p.Current))
	if p.Units != "" {
		cur = fmt.Sprintf("%d %s", p.Current, p.Units)
	}
	if p.Total <= 0 || p.Current > p.Total {
		return fmt.Sprintf("%8v", cur)
	}
	n := int(float64(p.Current) / float64(p.Total) * 50)
	text := "[" + strings.Repeat("=", n) + ">" + strings.Repeat(" ", 50-n) + "] "
	if !p.HideCounts {
		text += fmt.Sprintf("%8v/%v", cur, units.HumanSize(float64(p.Total)))
	}
	if p.Start > 0 && p.Current > 0 && p.Current < p.Total {
		gone := time.Since(time.Unix(p.Start, 0))
		left := gone / time.Duration(p.Current) * time.Duration(p.Total-p.Current)
		text += " " + left.Round(time.Second).String()
	}
	return text
}
