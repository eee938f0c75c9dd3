// Package ocispec turns what the API says about a container (Config, HostConfig)
// into an OCI runtime configuration. It decides nothing about the order of things
// and touches nothing but device nodes, which it looks up; the service resolves
// mounts, files and namespaces to join beforehand.
//
// Users and groups are looked up inside the container, by init: Process.User.Username
// carries the text "user[:group]" as given, AnnotationGroups the --group-add list.
// HOME is set by init too unless the environment has it.
package ocispec

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/service/containers/ocispec/facts"
)

// AnnotationGroups carries --group-add (names or numbers, comma-separated) to
// init, which looks names up inside the container.
const AnnotationGroups = "io.gantry.groups"

// Input is everything that a runtime configuration is made of.
type Input struct {
	ID         string
	Path       string
	Args       []string
	Config     *container.Config
	HostConfig *container.HostConfig
	Hostname   string
	Domainname string

	Mounts   []specs.Mount // volumes, binds, tmpfs and the container's own files, in order
	ShmPath  string        // directory shared as /dev/shm (shareable, container: and host IPC); empty makes a tmpfs
	JoinIPC  bool          // IPC namespace comes from another container (Launch.Join)
	JoinPID  bool
	Links    []string // variables of the containers that it is linked to; its own go before
	NoNetNS  bool     // the host's network
	JoinNet  bool     // the network namespace is handed over or joined
	NetStart bool     // a fresh network of its own: Docker's default net sysctls apply

	CgroupPath   string
	SeccompBody  string // the daemon's default profile: JSON, "unconfined", or empty for the built-in one
	NoNewPrivs   bool
	AppArmor     string // profile, or empty
	ProcessLabel string
	MountLabel   string
	Ulimits      []*container.Ulimit // defaults of the daemon
	Host         facts.Host

	// Devices finds device nodes on the host; nil reads the host's /dev.
	Devices DeviceFinder
}

// Build makes the configuration. Errors are those of options that do not fit
// this host, of class InvalidArgument.
func Build(in Input) (*specs.Spec, error) {
	hc := in.HostConfig
	sec, err := ParseSecurity(hc.SecurityOpt)
	if err != nil {
		return nil, err
	}
	caps, err := Capabilities(hc, in.Host.CapBounding)
	if err != nil {
		return nil, err
	}
	devices, rules, err := devicesOf(in)
	if err != nil {
		return nil, err
	}
	resources := Resources(&hc.Resources)
	resources.Devices = rules
	s := &specs.Spec{
		Version:     specs.Version,
		Hostname:    in.Hostname,
		Domainname:  in.Domainname,
		Process:     process(in, caps, sec),
		Root:        &specs.Root{Path: "rootfs", Readonly: hc.ReadonlyRootfs},
		Mounts:      mounts(in),
		Annotations: annotations(hc),
		Linux: &specs.Linux{
			Namespaces:        namespaces(in),
			CgroupsPath:       in.CgroupPath,
			Resources:         resources,
			Devices:           devices,
			Sysctl:            sysctls(in),
			MaskedPaths:       hc.MaskedPaths,
			ReadonlyPaths:     hc.ReadonlyPaths,
			RootfsPropagation: rootPropagation(in.Mounts),
			MountLabel:        in.MountLabel,
		},
	}
	if hc.UTSMode.IsHost() {
		s.Hostname, s.Domainname = "", ""
	}
	if hc.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	}
	s.Linux.Seccomp, err = seccompOf(sec.Seccomp, in.SeccompBody, hc.Privileged, in.Host.Seccomp, s)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func process(in Input, caps []string, sec Security) *specs.Process {
	hc := in.HostConfig
	p := &specs.Process{
		Args:            append([]string{in.Path}, in.Args...),
		Env:             Env(slices.Concat(in.Links, in.Config.Env), in.Hostname, in.Config.Tty),
		Cwd:             in.Config.WorkingDir,
		Terminal:        in.Config.Tty,
		User:            specs.User{Username: in.Config.User, Umask: hc.Umask},
		Capabilities:    capabilitySets(caps),
		Rlimits:         rlimits(hc.Ulimits, in.Ulimits),
		NoNewPrivileges: in.NoNewPrivs || sec.NoNewPrivileges != nil && *sec.NoNewPrivileges,
		ApparmorProfile: in.AppArmor,
		SelinuxLabel:    in.ProcessLabel,
	}
	if sec.NoNewPrivileges != nil {
		p.NoNewPrivileges = *sec.NoNewPrivileges
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if hc.OomScoreAdj != 0 {
		v := hc.OomScoreAdj
		p.OOMScoreAdj = &v
	}
	if in.Config.Tty && hc.ConsoleSize[0] != 0 && hc.ConsoleSize[1] != 0 {
		p.ConsoleSize = &specs.Box{Height: hc.ConsoleSize[0], Width: hc.ConsoleSize[1]}
	}
	return p
}

// DefaultPath is the search path of a container whose image and user set none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Env is the environment of a container's process: PATH, HOSTNAME and TERM come
// first and may be overridden. A name without "=" removes the variable.
func Env(env []string, hostname string, tty bool) []string {
	out := make([]string, 0, len(env)+3)
	out = append(out, "PATH="+DefaultPath, "HOSTNAME="+hostname)
	if tty {
		out = append(out, "TERM=xterm")
	}
	return ReplaceEnv(out, env)
}

// ReplaceEnv puts overrides into base: replacing in place, appending, or removing
// where an override has no "=". base may be written to.
func ReplaceEnv(base, overrides []string) []string {
	for _, o := range overrides {
		name, _, set := strings.Cut(o, "=")
		i := slices.IndexFunc(base, func(b string) bool { n, _, _ := strings.Cut(b, "="); return n == name })
		switch {
		case !set && i >= 0:
			base = slices.Delete(base, i, i+1)
		case !set:
		case i >= 0:
			base[i] = o
		default:
			base = append(base, o)
		}
	}
	return base
}

func annotations(hc *container.HostConfig) map[string]string {
	if len(hc.Annotations) == 0 && len(hc.GroupAdd) == 0 {
		return nil
	}
	a := make(map[string]string, len(hc.Annotations)+1)
	for k, v := range hc.Annotations {
		a[k] = v
	}
	if len(hc.GroupAdd) > 0 {
		a[AnnotationGroups] = strings.Join(hc.GroupAdd, ",")
	}
	return a
}

func rlimits(own, defaults []*container.Ulimit) []specs.POSIXRlimit {
	var out []specs.POSIXRlimit
	have := map[string]bool{}
	for _, list := range [][]*container.Ulimit{own, defaults} {
		for _, u := range list {
			if have[u.Name] {
				continue
			}
			have[u.Name] = true
			out = append(out, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
		}
	}
	return out
}

func namespaces(in Input) []specs.LinuxNamespace {
	hc := in.HostConfig
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(wanted bool, t specs.LinuxNamespaceType) {
		if wanted {
			ns = append(ns, specs.LinuxNamespace{Type: t})
		}
	}
	add(!in.NoNetNS && !in.JoinNet, specs.NetworkNamespace)
	add(!hc.UTSMode.IsHost(), specs.UTSNamespace)
	add(!hc.PidMode.IsHost() && !in.JoinPID, specs.PIDNamespace)
	add(!hc.IpcMode.IsHost() && !in.JoinIPC, specs.IPCNamespace)
	add(hc.CgroupnsMode.IsPrivate(), specs.CgroupNamespace)
	return ns
}

func sysctls(in Input) map[string]string {
	out := map[string]string{}
	if in.NetStart {
		out["net.ipv4.ip_unprivileged_port_start"] = "0"
		out["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	for k, v := range in.HostConfig.Sysctls {
		out[k] = v
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
