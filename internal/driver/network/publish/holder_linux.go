package publish

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// searchTime bounds how long a port's holder is looked for among all processes.
const searchTime = time.Second

// holder names the process of the host that has a port, as "process 812 (nginx) has it", or
// is empty if it cannot be found (kernel sockets, processes of other PID namespaces).
func holder(proto string, port uint16) string {
	inodes := map[string]bool{}
	for _, table := range []string{proto, proto + "6"} {
		socketsOn("/proc/thread-self/net/"+table, port, inodes)
	}
	if len(inodes) == 0 {
		return ""
	}
	end := time.Now().Add(searchTime)
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		if _, err := strconv.Atoi(p.Name()); err != nil || !hasSocket(p.Name(), inodes) {
			if time.Now().After(end) {
				return ""
			}
			continue
		}
		comm, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "comm"))
		return fmt.Sprintf("process %s (%s) has it", p.Name(), strings.TrimSpace(string(comm)))
	}
	return ""
}

// socketsOn collects the inodes of sockets bound to a local port. The table's columns
// are described in proc_pid_net(5): local address:port in hexadecimal is the second, the
// inode the tenth. Connected TCP sockets are left out: they do not keep others from binding.
func socketsOn(table string, port uint16, inodes map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer f.Close()
	const listen, unconnected = "0A", "07"
	for in := bufio.NewScanner(f); in.Scan(); {
		col := strings.Fields(in.Text())
		if len(col) < 10 || col[3] != listen && col[3] != unconnected {
			continue
		}
		_, hex, _ := strings.Cut(col[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(n) == port && col[9] != "0" {
			inodes[col[9]] = true
		}
	}
}

func hasSocket(pid string, inodes map[string]bool) bool {
	dir := filepath.Join("/proc", pid, "fd")
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	for _, name := range names {
		to, err := os.Readlink(filepath.Join(dir, name))
		if inode, ok := strings.CutPrefix(to, "socket:["); err == nil && ok && inodes[strings.TrimSuffix(inode, "]")] {
			return true
		}
	}
	return false
}
