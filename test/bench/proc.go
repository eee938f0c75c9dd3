package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// pids are all processes of an engine, children that were waited for included in their parents.
func pids(e *testkit.Engine) []int {
	var ids []int
	for pid, cmd := range e.Processes() {
		if !strings.HasPrefix(cmd, "unshare") {
			ids = append(ids, pid)
		}
	}
	return ids
}

// cpuTime is the user and system time of the engine's processes and of the children they reaped.
func cpuTime(e *testkit.Engine) time.Duration {
	var ticks int64
	for _, pid := range pids(e) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) < 15 {
			continue
		}
		for _, s := range f[11:15] { // utime stime cutime cstime
			n, _ := strconv.ParseInt(s, 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100
}

// pss is the proportional set size of the engine's processes in MB.
func pss(e *testkit.Engine) float64 {
	var kb int64
	for _, pid := range pids(e) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				kb += n
			}
		}
	}
	return float64(kb) / 1024
}
