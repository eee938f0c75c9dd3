package main

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// referenceFloor is the floor's life on the machine whose milliseconds the bars are in.
const referenceFloor = 3700 * time.Microsecond

// speed measures how fast the machine is just now, by the floor: virtual machines change by the hour.
func (b *bench) speed() (time.Duration, error) {
	f, err := b.startFloor()
	if err != nil {
		return 0, err
	}
	defer f.close()
	if _, _, err := f.block(3, 0); err != nil {
		return 0, err
	}
	s, _, err := f.block(20, 0)
	return s.median(), err
}

var inTime = regexp.MustCompile(`([0-9.]+)( / [≤≥] ([0-9.]+))? (ms|MB/s|a second)$`)

// scaled says what a bar in units of time is on a machine on which the floor takes so long.
func scaled(bar string, floor time.Duration) string {
	m := inTime.FindStringSubmatch(bar)
	if m == nil || floor <= referenceFloor {
		return bar
	}
	factor := float64(floor) / float64(referenceFloor)
	if m[4] != "ms" {
		factor = 1 / factor
	}
	text := ""
	for _, n := range []string{m[1], m[3]} {
		v, err := strconv.ParseFloat(n, 64)
		if err != nil {
			continue
		}
		if text != "" {
			text += " / "
		}
		text += fmt.Sprintf("%.3g", v*factor)
	}
	return fmt.Sprintf("%s (%s at this speed)", bar, text)
}
