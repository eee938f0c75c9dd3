package containers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// ticks is the kernel's unit of times in /proc/<pid>/stat (USER_HZ), per second.
const ticks = 100

// Top lists a container's processes. Without arguments (or with ps's -ef) they are
// read from /proc; other arguments are given to the host's ps.
func (c *querier) Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error) {
	var out container.TopResponse
	e, err := c.reg.get(ref)
	if err != nil {
		return out, err
	}
	rec := e.snapshot()
	if !rec.State.Status.Running() {
		return out, classed.Conflict("container %s is not running", rec.ID)
	}
	if rec.State.Status == Restarting {
		return out, isRestarting.For(rec.ID)
	}
	pids, err := c.Cgroups.Pids(ctx, rec.Cgroup)
	if err != nil {
		return out, err
	}
	slices.Sort(pids)
	switch strings.TrimSpace(psArgs) {
	case "", "-ef":
		out = topNative(pids, c.now())
	default:
		if out, err = topByPS(ctx, pids, psArgs); err != nil {
			return out, err
		}
	}
	c.publish(rec, events.ActionTop, nil)
	return out, nil
}

func topNative(pids []int, now time.Time) container.TopResponse {
	out := container.TopResponse{Titles: []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}, Processes: [][]string{}}
	up := uptime()
	for _, pid := range pids {
		if row, ok := psRow(pid, now, up); ok {
			out.Processes = append(out.Processes, row)
		}
	}
	return out
}

func uptime() time.Duration {
	b, _ := os.ReadFile("/proc/uptime")
	first, _, _ := strings.Cut(string(b), " ")
	s, _ := strconv.ParseFloat(first, 64)
	return time.Duration(s * float64(time.Second))
}

// psRow is one process as ps -ef shows it; false if it has ended.
func psRow(pid int, now time.Time, up time.Duration) ([]string, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil, false
	}
	st, ok := parseStat(string(stat))
	if !ok {
		return nil, false
	}
	cmd, _ := os.ReadFile(dir + "/cmdline")
	line := strings.TrimRight(strings.ReplaceAll(string(cmd), "\x00", " "), " ")
	if line == "" {
		line = "[" + st.comm + "]"
		if st.state == "Z" {
			line += " <defunct>"
		}
	}
	age := max(up-st.start, 0)
	percent := 0
	if age >= time.Second {
		percent = int(100 * st.cpu / age)
	}
	started := now.Add(-age).Local()
	stime := started.Format("15:04")
	if age > 24*time.Hour {
		stime = started.Format("Jan02")
	}
	secs := int(st.cpu / time.Second)
	return []string{owner(dir), strconv.Itoa(pid), strconv.Itoa(st.ppid), strconv.Itoa(percent), stime, ttyName(st.tty),
		fmt.Sprintf("%02d:%02d:%02d", secs/3600, secs/60%60, secs%60), line}, true
}

type procStat struct {
	comm, state string
	ppid, tty   int
	cpu, start  time.Duration // start counts from boot
}

// parseStat reads /proc/<pid>/stat (proc_pid_stat(5)); comm may contain anything.
func parseStat(s string) (st procStat, ok bool) {
	from, to := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if from < 0 || to < from {
		return st, false
	}
	f := strings.Fields(s[to+1:])
	if len(f) < 20 {
		return st, false
	}
	num := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	st.comm, st.state, st.ppid, st.tty = s[from+1:to], f[0], num(1), num(4)
	st.cpu = time.Duration(num(11)+num(12)) * time.Second / ticks
	st.start = time.Duration(num(19)) * time.Second / ticks
	return st, true
}

func owner(dir string) string {
	b, _ := os.ReadFile(dir + "/status")
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			f := strings.Fields(rest)
			if len(f) < 2 {
				break
			}
			if u, err := user.LookupId(f[1]); err == nil && len(u.Username) <= 8 {
				return u.Username
			}
			return f[1]
		}
	}
	return "?"
}

// ttyName decodes a terminal's device number: 136 to 143 are the majors of pseudo terminals.
func ttyName(dev int) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	switch {
	case dev == 0:
		return "?"
	case major >= 136 && major <= 143:
		return "pts/" + strconv.Itoa((major-136)<<8|minor)
	case major == 4 && minor < 64:
		return "tty" + strconv.Itoa(minor)
	}
	return "?"
}

// renamed finds columns that ps is asked to call PID: the rows are picked by that column.
var renamed = regexp.MustCompile(`\s(\S*)=\s*(PID\S*)`)

// topByPS asks the host's ps. What ps refuses is answered as the API describes it: a server error.
func topByPS(ctx context.Context, pids []int, psArgs string) (container.TopResponse, error) {
	for _, m := range renamed.FindAllStringSubmatch(" "+psArgs, -1) {
		if m[1] != "pid" {
			return container.TopResponse{}, classed.Errorf(errdefs.ErrInternal, "specifying \"%s=%s\" is not allowed", m[1], m[2])
		}
	}
	ps, err := exec.LookPath("ps")
	if err != nil {
		return container.TopResponse{}, classed.Unsupported("top with ps's own options on a host without the program ps")
	}
	// Without -q, ps would list by the daemon's terminal: nothing, if that has one. Some options
	// (f) do not go together with -q.
	args := strings.Fields(psArgs)
	b, err := exec.CommandContext(ctx, ps, append(slices.Clone(args), "-q"+joined(pids))...).Output()
	if err != nil {
		b, err = exec.CommandContext(ctx, ps, args...).Output()
	}
	if err != nil {
		text := err.Error()
		if ee, ok := err.(*exec.ExitError); ok && len(ee.Stderr) > 0 {
			text, _, _ = strings.Cut(strings.TrimSpace(string(ee.Stderr)), "\n")
		}
		return container.TopResponse{}, classed.Errorf(errdefs.ErrInternal, "ps: %s", strings.TrimPrefix(text, "ps: "))
	}
	return parsePS(string(b), pids)
}

func joined(pids []int) string {
	list := make([]string, len(pids))
	for i, pid := range pids {
		list[i] = strconv.Itoa(pid)
	}
	return strings.Join(list, ",")
}

// parsePS picks the rows of the given processes out of ps's table. A row with "-" for its
// process is a thread of the one above.
func parsePS(table string, pids []int) (container.TopResponse, error) {
	out := container.TopResponse{Processes: [][]string{}}
	lines := strings.Split(strings.TrimRight(table, "\n"), "\n")
	out.Titles = strings.Fields(lines[0])
	col := slices.Index(out.Titles, "PID")
	if col < 0 {
		return out, classed.Errorf(errdefs.ErrInternal, "Couldn't find PID field in ps output")
	}
	listed := false
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) <= col {
			continue
		}
		if f[col] != "-" {
			pid, err := strconv.Atoi(f[col])
			listed = err == nil && slices.Contains(pids, pid)
		}
		if !listed {
			continue
		}
		if n := len(out.Titles); len(f) > n { // the last column holds spaces
			f = append(f[:n-1:n-1], strings.Join(f[n-1:], " "))
		}
		out.Processes = append(out.Processes, f)
	}
	return out, nil
}
