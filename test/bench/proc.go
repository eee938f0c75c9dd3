package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpuTime is the user and system time of the engine's processes and of the children they
// reaped. The kernel tells it in steps of 10 ms.
func (e *engine) cpuTime() time.Duration {
	var ticks int64
	for _, pid := range e.pids() {
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
func (e *engine) pss() float64 {
	var kb int64
	for _, pid := range e.pids() {
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

// conditions tell what a run's figures hold for.
func conditions(b *bench) string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	kernel, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-") // whose build it is says nothing
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	mode := "v2"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		mode = "v1"
		if _, err := os.Stat("/sys/fs/cgroup/unified"); err == nil {
			mode = "v1 with the hybrid mount"
		}
	}
	return fmt.Sprintf("%s, %d cores, kernel %s, cgroup %s, %d repetitions in turns of %d",
		time.Now().UTC().Format("2 January 2006, 15:04 UTC"), strings.Count(string(cpus), "processor\t:"), kernel, mode, b.n, b.block)
}

// load is the machine's load average of the last minute, our own work included.
func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
