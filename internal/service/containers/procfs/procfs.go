// Package procfs reads from /proc what the host and its processes have used.
package procfs

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
)

// ticks is the kernel's unit of times in /proc/<pid>/stat (USER_HZ), per second.
const ticks = 100

// Uptime is the time since the host has booted.
func Uptime() time.Duration {
	b, _ := os.ReadFile("/proc/uptime")
	first, _, _ := strings.Cut(string(b), " ")
	s, _ := strconv.ParseFloat(first, 64)
	return time.Duration(s * float64(time.Second))
}

// SystemCPU is the time all of the host's processors spent, idle included, in nanoseconds.
func SystemCPU() uint64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return parseSystemCPU(b)
}

func parseSystemCPU(b []byte) uint64 {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 8 || f[0] != "cpu" {
		return 0
	}
	var sum uint64
	for _, v := range f[1:8] { // guest times are part of user's
		n, _ := strconv.ParseUint(v, 10, 64)
		sum += n
	}
	return sum * uint64(time.Second/ticks)
}

// Memory is the host's, in bytes; 0 if that cannot be read.
func Memory() uint64 {
	b, _ := os.ReadFile("/proc/meminfo")
	line, _, _ := strings.Cut(string(b), "\n")
	if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
		n, _ := strconv.ParseUint(f[1], 10, 64)
		return n << 10
	}
	return 0
}

// Stat is a process's line in /proc/<pid>/stat, as far as it is of use here.
type Stat struct {
	Comm, State string
	PPID, TTY   int           // TTY is a device number
	CPU, Start  time.Duration // Start counts from boot
}

// StatOf reads a process's state; false if it has ended.
func StatOf(pid int) (Stat, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, false
	}
	return parseStat(string(b))
}

// parseStat reads /proc/<pid>/stat (proc_pid_stat(5)); comm may contain anything.
func parseStat(s string) (st Stat, ok bool) {
	from, to := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if from < 0 || to < from {
		return st, false
	}
	f := strings.Fields(s[to+1:])
	if len(f) < 20 {
		return st, false
	}
	num := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	st.Comm, st.State, st.PPID, st.TTY = s[from+1:to], f[0], num(1), num(4)
	st.CPU = time.Duration(num(11)+num(12)) * time.Second / ticks
	st.Start = time.Duration(num(19)) * time.Second / ticks
	return st, true
}

// Interfaces are the counters of the interfaces that a process sees, by name, without loopback.
func Interfaces(pid int) map[string]container.NetworkStats {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	return parseNetDev(b)
}

// parseNetDev reads /proc/<pid>/net/dev.
func parseNetDev(b []byte) map[string]container.NetworkStats {
	out := map[string]container.NetworkStats{}
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(f) < 12 {
			continue
		}
		n := func(i int) uint64 { v, _ := strconv.ParseUint(f[i], 10, 64); return v }
		out[name] = container.NetworkStats{RxBytes: n(0), RxPackets: n(1), RxErrors: n(2), RxDropped: n(3),
			TxBytes: n(8), TxPackets: n(9), TxErrors: n(10), TxDropped: n(11)}
	}
	return out
}
