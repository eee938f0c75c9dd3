// Package calm lets Go's monitor thread sleep longer at a time.
//
// The runtime's monitor looks after blocked system calls and long-running goroutines. While anything runs it
// wakes every 20 µs, later less often; in a short burst of work, which is all that an engine
// does for a container, that is dozens of wake-ups that find nothing. With a timer slack of a
// millisecond the kernel makes a few out of them. Nothing else in the process is delayed.
package calm

import (
	"os"
	"strconv"
)

// Slack is how much later the monitor may wake, in nanoseconds. The kernel's own default is 50 µs.
const Slack = 1_000_000

// Monitor raises the timer slack of the monitor thread. It is to be called first thing in main: by
// then the threads are the main one, the monitor, and at most a few idle ones. What fails is left as it was: it
// costs time, nothing else.
func Monitor() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	main := os.Getpid()
	first := 0
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err == nil && tid != main && (first == 0 || tid < first) {
			first = tid // the runtime makes the monitor before any other thread
		}
	}
	if first != 0 {
		_ = os.WriteFile("/proc/"+strconv.Itoa(first)+"/timerslack_ns", []byte(strconv.Itoa(Slack)), 0)
	}
}
