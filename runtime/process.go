package runtime

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/runtime/program"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

var rlimitNumbers = map[string]uint64{
	"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
	"RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10,
	"RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}

// process is everything that belongs to the process rather than to the container.
func (c *compiler) process() error {
	p, w := c.spec.Process, c.w
	if !p.Terminal {
		w.Begin(program.OpSession)
	}
	if c.opts.Keyring != "" {
		w.Begin(program.OpKeyring).Str(c.opts.Keyring)
	}
	if p.OOMScoreAdj != nil {
		w.Begin(program.OpOOMScore).Str(strconv.Itoa(*p.OOMScoreAdj))
	}
	seen := map[string]bool{}
	for _, l := range p.Rlimits {
		n, ok := rlimitNumbers[l.Type]
		if !ok || seen[l.Type] {
			return invalid("rlimit %q is not known, or given twice", l.Type)
		}
		if l.Soft > l.Hard {
			return invalid("rlimit %s: soft limit %d is above the hard limit %d", l.Type, l.Soft, l.Hard)
		}
		seen[l.Type] = true
		w.Begin(program.OpRlimit).Num(n).Num(l.Soft).Num(l.Hard)
	}
	if per := c.spec.Linux.Personality; per != nil && !c.opts.Exec {
		domains := map[specs.LinuxPersonalityDomain]uint64{specs.PerLinux: 0, specs.PerLinux32: 8}
		n, ok := domains[per.Domain]
		if !ok || len(per.Flags) > 0 {
			return invalid("personality %q with flags %v is not known", per.Domain, per.Flags)
		}
		w.Begin(program.OpPersonality).Num(n)
	}
	if err := c.scheduling(); err != nil {
		return err
	}
	if !c.stays() {
		c.labels()
	}
	env := dedupe(p.Env)
	if p.Terminal && !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		env = append(env, "TERM=xterm")
	}
	w.Begin(program.OpEnv).List(env)
	args := p.Args
	if len(args) == 0 {
		return invalid("process.args is empty: there is nothing to execute")
	}
	for _, s := range slices.Concat(args, env) {
		if strings.IndexByte(s, 0) >= 0 {
			return invalid("arguments and environment must not contain zero bytes")
		}
	}
	w.Begin(program.OpArgs).List(args)
	w.Begin(program.OpKeepFDs).Num(uint64(c.opts.KeepFDs))
	return nil
}

// labels are for the next exec, so they come after the one that OpStayInit makes.
func (c *compiler) labels() {
	p, w := c.spec.Process, c.w
	if p.SelinuxLabel != "" {
		w.Begin(program.OpLabel).Str("exec").Str(p.SelinuxLabel).Str("")
		w.Begin(program.OpLabel).Str("keycreate").Str(p.SelinuxLabel).Str("")
	}
	if p.ApparmorProfile != "" {
		w.Begin(program.OpLabel).Str("apparmor/exec").Str("exec " + p.ApparmorProfile).Str("exec")
	}
}

// stays tells whether gantry-init becomes PID 1.
func (c *compiler) stays() bool { return c.opts.UseInit && !c.opts.Exec }

// unsupported refuses what is in the specification and not here: ignoring it would
// start a container that is not what was asked for.
func (c *compiler) unsupported() error {
	l := c.spec.Linux
	for _, f := range []struct {
		given      bool
		name, what string
	}{
		{l.IntelRdt != nil, "linux.intelRdt", "resource director technology"},
		{l.MemoryPolicy != nil, "linux.memoryPolicy", "a NUMA memory policy"},
		{len(l.NetDevices) > 0, "linux.netDevices", "moving network devices of the host"},
		{c.spec.Process.ExecCPUAffinity != nil, "process.execCPUAffinity", "the CPU affinity of exec processes"},
	} {
		if f.given {
			return fmt.Errorf("%s: %s is not supported; remove it from the configuration: %w", f.name, f.what, errdefs.ErrNotImplemented)
		}
	}
	return nil
}

// dedupe keeps the last value of each variable, in the place of the first.
func dedupe(env []string) []string {
	at := make(map[string]int, len(env))
	out := make([]string, 0, len(env))
	for _, e := range env {
		k, _, _ := strings.Cut(e, "=")
		if i, ok := at[k]; ok {
			out[i] = e
			continue
		}
		at[k] = len(out)
		out = append(out, e)
	}
	return out
}

var schedPolicies = map[specs.LinuxSchedulerPolicy]uint64{
	specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3, specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6,
}

var schedFlags = map[specs.LinuxSchedulerFlag]uint64{
	specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2, specs.SchedFlagDLOverrun: 4, specs.SchedFlagKeepPolicy: 8,
	specs.SchedFlagKeepParams: 16, specs.SchedFlagUtilClampMin: 32, specs.SchedFlagUtilClampMax: 64,
}

func (c *compiler) scheduling() error {
	p := c.spec.Process
	if s := p.Scheduler; s != nil {
		policy, ok := schedPolicies[s.Policy]
		if !ok {
			return invalid("scheduler policy %q is not known", s.Policy)
		}
		var flags uint64
		for _, f := range s.Flags {
			bit, ok := schedFlags[f]
			if !ok {
				return invalid("scheduler flag %q is not known", f)
			}
			flags |= bit
		}
		c.w.Begin(program.OpScheduler).Num(policy).Num(flags).Num(uint64(uint32(s.Nice))).Num(uint64(s.Priority)).Num(s.Runtime).Num(s.Deadline).Num(s.Period)
	}
	if io := p.IOPriority; io != nil {
		classes := map[specs.IOPriorityClass]uint64{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}
		class, ok := classes[io.Class]
		if !ok || io.Priority < 0 || io.Priority > 7 {
			return invalid("io priority %q %d is not known", io.Class, io.Priority)
		}
		c.w.Begin(program.OpIOPriority).Num(class<<13 | uint64(io.Priority))
	}
	return nil
}

// identity is the end: capabilities, user, seccomp, exec, in the order that rights demand.
func (c *compiler) identity() error {
	p, w := c.spec.Process, c.w
	filter, err := c.seccompProgram()
	if err != nil {
		return err
	}
	if !p.NoNewPrivileges {
		filter() // needs CAP_SYS_ADMIN, so before it is dropped
	}
	if err := c.capabilities(); err != nil {
		return err
	}
	if p.User.Umask != nil {
		w.Begin(program.OpUmask).Num(uint64(*p.User.Umask))
	} else {
		w.Begin(program.OpUmask).Num(0o022)
	}
	if c.opts.UserString != "" || len(c.opts.Groups) > 0 {
		w.Begin(program.OpUserName).Str(c.opts.UserString).List(c.opts.Groups)
	} else {
		groups := make([]string, len(p.User.AdditionalGids))
		for i, g := range p.User.AdditionalGids {
			groups[i] = strconv.FormatUint(uint64(g), 10)
		}
		w.Begin(program.OpUser).Num(uint64(p.User.UID)).Num(uint64(p.User.GID)).List(groups)
	}
	if c.opts.SetHome {
		w.Begin(program.OpSetHome)
	}
	w.Begin(program.OpLookup)
	if p.NoNewPrivileges {
		w.Begin(program.OpNoNewPrivs)
		filter()
	}
	if c.stays() { // under all that holds for the program: whoever takes PID 1 over gains nothing
		w.Begin(program.OpStayInit)
		c.labels()
	}
	starting := c.spec.Hooks != nil && c.opts.HostHooks && !c.opts.Exec && len(c.spec.Hooks.StartContainer) > 0
	if starting { // the state that they read, while the parent is still there
		w.Begin(program.OpHook).Num(program.HookStartContainer)
	}
	if c.opts.Gate {
		w.Begin(program.OpGate).Bool(c.opts.Report)
	}
	if starting {
		for _, hook := range c.spec.Hooks.StartContainer {
			if err := c.hook(program.HookStartContainer, hook); err != nil {
				return err
			}
		}
	}
	w.Begin(program.OpExec)
	return nil
}

var capNumbers = func() map[string]uint {
	names := []string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
		"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
		"SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
		"LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
		"PERFMON", "BPF", "CHECKPOINT_RESTORE"}
	m := make(map[string]uint, len(names))
	for i, n := range names {
		m["CAP_"+n] = uint(i)
	}
	return m
}()

// CapabilityNames lists the capabilities this build knows, by number.
func CapabilityNames() []string {
	out := make([]string, len(capNumbers))
	for name, n := range capNumbers {
		out[n] = name
	}
	return out
}

func (c *compiler) capabilities() error {
	caps := c.spec.Process.Capabilities
	if caps == nil {
		caps = &specs.LinuxCapabilities{}
	}
	var flags uint64
	if c.opts.CapPolicy == CapsAvailable {
		flags = program.CapsDropMissing
	}
	c.w.Begin(program.OpCaps)
	for _, set := range [][]string{caps.Bounding, caps.Effective, caps.Permitted, caps.Inheritable, caps.Ambient} {
		var mask uint64
		for _, name := range set {
			n, ok := capNumbers[strings.ToUpper(name)]
			if !ok {
				return invalid("capability %q is not known", name)
			}
			mask |= 1 << n
		}
		c.w.Num(mask)
	}
	c.w.Num(flags)
	return nil
}
