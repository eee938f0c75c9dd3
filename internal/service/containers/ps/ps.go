// Package ps shows processes as the program ps does: natively, or by the host's ps for its own options.
package ps

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

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/procfs"
)

// List shows the processes as ps -ef does; those that have ended are left out.
func List(pids []int, now time.Time) container.TopResponse {
	out := container.TopResponse{Titles: []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}, Processes: [][]string{}}
	up := procfs.Uptime()
	for _, pid := range pids {
		if fields, ok := row(pid, now, up); ok {
			out.Processes = append(out.Processes, fields)
		}
	}
	return out
}

// row is one process as ps -ef shows it; false if it has ended.
func row(pid int, now time.Time, up time.Duration) ([]string, bool) {
	st, ok := procfs.StatOf(pid)
	if !ok {
		return nil, false
	}
	dir := "/proc/" + strconv.Itoa(pid)
	cmd, _ := os.ReadFile(dir + "/cmdline")
	line := strings.TrimRight(strings.ReplaceAll(string(cmd), "\x00", " "), " ")
	if line == "" {
		line = "[" + st.Comm + "]"
		if st.State == "Z" {
			line += " <defunct>"
		}
	}
	age := max(up-st.Start, 0)
	percent := 0
	if age >= time.Second {
		percent = int(100 * st.CPU / age)
	}
	started := now.Add(-age).Local()
	stime := started.Format("15:04")
	if age > 24*time.Hour {
		stime = started.Format("Jan02")
	}
	secs := int(st.CPU / time.Second)
	return []string{owner(dir), strconv.Itoa(pid), strconv.Itoa(st.PPID), strconv.Itoa(percent), stime, ttyName(st.TTY),
		fmt.Sprintf("%02d:%02d:%02d", secs/3600, secs/60%60, secs%60), line}, true
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

// Run gives the arguments to the host's ps and picks the rows of the processes out of its table. What ps
// refuses is answered as the API describes it: a server error.
func Run(ctx context.Context, pids []int, psArgs string) (container.TopResponse, error) {
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
