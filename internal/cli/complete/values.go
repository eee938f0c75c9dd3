package complete

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/system"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/engine"
)

// fixed are the flags whose values are known without asking anybody. A value that ends in = or : goes on.
func fixed() map[string][]string {
	return map[string][]string{
		"arch":      {"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x", "wasm"},
		"attach":    {"stderr", "stdin", "stdout"},
		"cgroupns":  {"host", "private"},
		"format":    {"json", "table"},
		"ipc":       {"container:", "host", "none", "private", "shareable"},
		"isolation": {"default", "hyperv", "process"},
		"log-level": {"debug", "info", "warn", "error", "fatal"},
		"os":        {"darwin", "freebsd", "linux", "windows"},
		"pid":       {"container:", "host"},
		"pocket":    {"none", "security", "updates"},
		"platform":  {"linux/386", "linux/amd64", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/riscv64", "linux/s390x"},
		"pull":      {"always", "missing", "never"},
		"restart":   {"always", "no", "on-failure", "on-failure:", "unless-stopped"},
		"security-opt": {"apparmor=", "label=", "no-new-privileges", "seccomp=", "seccomp=builtin", "seccomp=unconfined", "systempaths=unconfined",
			"writable-cgroups="},
		"type":    {"config", "container", "context", "image", "network", "node", "plugin", "secret", "service", "task", "volume"},
		"ulimit":  {"core=", "cpu=", "data=", "fsize=", "locks=", "memlock=", "msgqueue=", "nice=", "nofile=", "nproc=", "rss=", "rtprio=", "rttime=", "sigpending=", "stack="},
		"userns":  {"host"},
		"uts":     {"host"},
		"variant": {"apt", "buildd", "custom", "essential", "important", "minbase", "standard"},
	}
}

var signals = []string{"ABRT", "ALRM", "BUS", "CHLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "KILL", "PIPE", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP",
	"SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ"}

var capabilities = []string{"ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH",
	"FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
	"NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE",
	"SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"}

// filters are the keys of --filter by the object that is listed.
func filters() map[string][]string {
	return map[string][]string{
		"container": {"ancestor=", "before=", "exited=", "expose=", "health=", "id=", "is-task=", "isolation=", "label=", "name=", "network=", "publish=", "since=", "status=", "volume="},
		"image":     {"before=", "dangling=", "label=", "reference=", "since=", "until="},
		"network":   {"dangling=", "driver=", "id=", "label=", "name=", "scope=", "type="},
		"volume":    {"dangling=", "driver=", "label=", "name="},
		"system":    {"label=", "until="},
		"events":    {"container=", "daemon=", "event=", "image=", "label=", "network=", "scope=", "type=", "volume="},
		"prune":     {"label=", "label!=", "until="},
	}
}

// flagValues proposes values of a flag; files of this machine where nothing better is known.
func flagValues(ctx context.Context, a *app.App, c *app.Command, flag, typed string) proposal {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p := proposal{words: fixed()[flag]}
	switch flag {
	case "network", "net":
		p.words = append(list(ctx, a, "NETWORK", ""), "container:")
	case "volumes-from":
		p.words = list(ctx, a, "CONTAINER", "")
	case "link":
		p.words = list(ctx, a, "CONTAINER", "exec")
	case "variant":
		if c.Name == "annotate" { // of an architecture
			p.words = []string{"v5", "v6", "v7", "v8"}
		}
	case "context", "from":
		p.words = list(ctx, a, "CONTEXT", "")
	case "signal", "stop-signal":
		p.words = signals
	case "cap-add", "cap-drop":
		p.words = capabilities
	case "env":
		for _, e := range os.Environ() {
			k, _, _ := strings.Cut(e, "=")
			p.words = append(p.words, k)
		}
		slices.Sort(p.words)
	case "log-driver", "volume-driver", "driver", "runtime":
		p.words = drivers(ctx, a.Engine, c, flag)
	case "filter":
		p.words = filterKeys(c)
	}
	if at, ok := strings.CutPrefix(typed, "container:"); ok && slices.Contains(p.words, "container:") {
		p.words = nil
		for _, n := range list(ctx, a, "CONTAINER", "exec") {
			if strings.HasPrefix(n, at) {
				p.words = append(p.words, "container:"+n)
			}
		}
		return p
	}
	p.files = p.words == nil
	left := p.only(typed).words
	p.unfinished = len(left) == 1 && strings.ContainsAny(left[0][len(left[0])-1:], "=:")
	return p
}

func filterKeys(c *app.Command) []string {
	words := strings.Fields(strings.Join(c.AKA, " ") + " " + c.Name)
	for _, kind := range []string{"prune", "events", "container", "image", "network", "volume", "system"} {
		if slices.Contains(words, kind) {
			return filters()[kind]
		}
	}
	switch {
	case slices.Contains(words, "images"):
		return filters()["image"]
	case c.Parent() != nil:
		return filters()[c.Parent().Name]
	}
	return nil
}

// drivers are the names the engine knows for a kind of driver.
func drivers(ctx context.Context, e *engine.Engine, c *app.Command, flag string) (names []string) {
	cl, err := e.Client()
	if err != nil {
		return nil
	}
	var info system.Info
	if cl.Get(ctx, "/info", nil, &info) != nil {
		return nil
	}
	switch {
	case flag == "runtime":
		for name := range info.Runtimes {
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	case flag == "log-driver":
		return info.Plugins.Log
	case flag == "volume-driver" || c.Parent() != nil && c.Parent().Name == "volume":
		return info.Plugins.Volume
	}
	return info.Plugins.Network
}
