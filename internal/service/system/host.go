package system

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// host is what the machine is and can do. It is read once, when first asked for.
type host struct {
	once sync.Once

	kernel, os, osVersion, arch      string
	memTotal                         int64
	cgroupVersion                    string
	memory, swap, cfs, shares        bool
	cpuset, pids, oomKillDisable, io bool
}

func (h *host) read() *host {
	h.once.Do(func() {
		h.kernel = readFile("/proc/sys/kernel/osrelease")
		h.arch = readFile("/proc/sys/kernel/arch")
		if h.arch == "" {
			h.arch = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}[runtime.GOARCH]
		}
		if h.arch == "" {
			h.arch = runtime.GOARCH
		}
		h.readOS()
		for line := range strings.Lines(readFile("/proc/meminfo")) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
				kb, _ := strconv.ParseInt(f[1], 10, 64)
				h.memTotal = kb << 10
			}
		}
		h.readCgroups("/sys/fs/cgroup")
	})
	return h
}

func (h *host) readOS() {
	h.os = "Linux"
	text := readFile("/etc/os-release")
	if text == "" {
		text = readFile("/usr/lib/os-release")
	}
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		if u, err := strconv.Unquote(v); err == nil {
			v = u
		}
		switch k {
		case "PRETTY_NAME":
			h.os = v
		case "VERSION_ID":
			h.osVersion = v
		}
	}
}

// readCgroups looks which limits the host offers, on v2 and on v1.
func (h *host) readCgroups(root string) {
	if list := readFile(filepath.Join(root, "cgroup.controllers")); list != "" {
		h.cgroupVersion = "2"
		has := map[string]bool{}
		for _, c := range strings.Fields(list) {
			has[c] = true
		}
		h.memory, h.swap, h.cfs, h.shares, h.cpuset, h.pids, h.io = has["memory"], has["memory"], has["cpu"], has["cpu"], has["cpuset"], has["pids"], has["io"]
		return
	}
	h.cgroupVersion = "1"
	there := func(file string) bool { _, err := os.Stat(filepath.Join(root, file)); return err == nil }
	h.memory = there("memory/memory.limit_in_bytes")
	h.swap = there("memory/memory.memsw.limit_in_bytes")
	h.oomKillDisable = there("memory/memory.oom_control")
	h.cfs = there("cpu/cpu.cfs_period_us")
	h.shares = there("cpu/cpu.shares")
	h.cpuset = there("cpuset/cpuset.cpus")
	h.pids = there("pids/cgroup.procs")
	h.io = there("blkio/cgroup.procs")
}

// warnings are those that clients print below `info`.
func (h *host) warnings() []string {
	w := []string{}
	for _, c := range []struct {
		ok   bool
		text string
	}{
		{h.memory, "WARNING: No memory limit support"},
		{h.swap, "WARNING: No swap limit support"},
		{h.cgroupVersion == "2" || h.oomKillDisable, "WARNING: No oom kill disable support"},
		{h.cfs, "WARNING: No cpu cfs quota support"},
		{h.cfs, "WARNING: No cpu cfs period support"},
		{h.shares, "WARNING: No cpu shares support"},
		{h.cpuset, "WARNING: No cpuset support"},
		{h.pids, "WARNING: No pids limit support"},
		{readFile("/proc/sys/net/ipv4/ip_forward") != "0", "WARNING: IPv4 forwarding is disabled"},
	} {
		if !c.ok {
			w = append(w, c.text)
		}
	}
	return w
}

func readFile(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
