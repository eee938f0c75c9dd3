package keeper

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/logformat/logopt"
	"github.com/gantry-engine/gantry/internal/spec"
)

// launchMessage is a launch as the keeper is asked for it.
func launchMessage(compile Compiler, l spec.Launch) (m keeperproto.Launch, err error) {
	if _, err := keeperproto.ProcName(l.Key); err != nil {
		return m, fmt.Errorf("launching %s: %w: %w", l.Key, errdefs.ErrInvalidArgument, err)
	}
	program, facts, err := compile(l)
	if err != nil {
		return m, err
	}
	m = keeperproto.Launch{Key: l.Key, Program: program, Facts: facts, Stdin: l.Stdin, OOMFile: oomFile(l.Cgroup), Note: l.Note}
	m.Terminal = l.OCI != nil && l.OCI.Process != nil && l.OCI.Process.Terminal
	for _, j := range l.Join {
		kind, ok := nsKinds[j.Kind]
		if !ok {
			return m, fmt.Errorf("launching %s: joining the namespace %q: there is no such kind: %w", l.Key, j.Kind, errdefs.ErrInvalidArgument)
		}
		m.Join = append(m.Join, keeperproto.Join{Kind: kind, Key: spec.ProcessKey{Container: j.Container}})
	}
	m.Log, err = logMessage(l.Log)
	return m, err
}

var nsKinds = map[spec.NamespaceKind]string{
	specs.MountNamespace: "mnt", specs.NetworkNamespace: "net", specs.PIDNamespace: "pid", specs.IPCNamespace: "ipc",
	specs.UTSNamespace: "uts", specs.UserNamespace: "user", specs.CgroupNamespace: "cgroup", specs.TimeNamespace: "time",
}

// logMessage decides everything about a log, so that the keeper parses nothing.
func logMessage(c spec.LogConfig) (m keeperproto.Log, err error) {
	switch c.Driver {
	case "", "none":
		return m, nil
	case "json-file":
		m.Driver = keeperproto.LogJSON
	case "local":
		m.Driver = keeperproto.LogLocal
	}
	o, err := logopt.Parse(c.Driver, c.Options)
	if err != nil {
		return m, err
	}
	if !filepath.IsAbs(c.Path) {
		return m, fmt.Errorf("log file %q: an absolute path is needed: %w", c.Path, errdefs.ErrInvalidArgument)
	}
	m.Path, m.MaxSize, m.MaxFile, m.Compress = c.Path, o.MaxSize, int32(o.MaxFile), o.Compress
	m.NonBlocking, m.MaxBuffer = o.NonBlocking, o.MaxBuffer
	if len(c.Attrs) > 0 {
		m.Attrs, err = json.Marshal(c.Attrs)
	}
	return m, err
}

// oomFile is where a cgroup counts the kernel's out-of-memory kills.
func oomFile(c spec.Cgroup) string {
	if dir := c.Dirs["memory"]; dir != "" {
		return filepath.Join(dir, "memory.oom_control")
	}
	if dir := c.Dirs[""]; dir != "" {
		return filepath.Join(dir, "memory.events")
	}
	return ""
}
