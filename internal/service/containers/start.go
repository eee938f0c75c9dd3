package containers

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/service/containers/links"
	"github.com/gantry-engine/gantry/internal/service/containers/notes"
	"github.com/gantry-engine/gantry/internal/service/containers/ocispec"
	"github.com/gantry-engine/gantry/internal/spec"
)

type starter struct {
	*core
	remove *remover
	execs  *execs
	health *healthMonitor
}

// Start runs a created or exited container. errdefs.NotModified means that it
// runs already. A failed start leaves the container as it was, but for exit code
// and error; one with auto-remove is removed.
func (s *starter) Start(ctx context.Context, ref string) error {
	e, unlock, err := s.openSettled(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	e.mu.Lock()
	e.backoff, e.stopping = backoff{}, false
	e.mu.Unlock()
	return s.launch(ctx, e, EvStart)
}

// launch does the work of a start; the caller holds the container's lock.
func (s *starter) launch(ctx context.Context, e *entry, ev Event) error {
	rec := e.snapshot()
	if err := rec.may(ev); err != nil {
		return err
	}
	a, err := s.attempt(ctx, rec)
	for try := 1; errdefs.IsUnavailable(err) && try < launchTries && ctx.Err() == nil; try++ {
		a, err = s.attempt(ctx, rec) // the keeper was replaced before the process ran
	}
	if err != nil {
		return s.failed(ctx, e, err)
	}
	failpoint.Hit("gantryd.start-save")
	durability := inMemory // the keeper's note of the run tells it again
	if !rec.HostConfig.RestartPolicy.IsNone() {
		durability = durable // that it should run is a promise over reboots
	}
	rec, err = s.change(ctx, e, durability, func(c *Container) {
		c.moved(ev)
		c.began(a.running, a.note)
		if ev == EvStart {
			c.RestartCount = 0
		}
	})
	if err != nil { // the disk refused: what runs unrecorded must not stay
		_ = s.Processes.Signal(context.WithoutCancel(ctx), e.snapshot().Key(), int(syscall.SIGKILL))
		return s.failed(ctx, e, errors.Join(err, a.undo.Run(ctx)))
	}
	failpoint.Hit("gantryd.start-saved")
	a.undo.Commit()
	e.markStarted()
	s.publishMounts(rec, events.ActionMount)
	s.publish(rec, events.ActionStart, nil)
	s.relink(ctx, rec)
	failpoint.Hit("gantryd.start-told")
	s.health.begin(e, rec)
	s.after(lasting, func() { s.lasts(e, rec, durability != inMemory) })
	return nil
}

// lasting is how long a run goes on before it is worth what only a longer one needs.
const lasting = 50 * time.Millisecond

// lasts begins to watch a run for want of memory, and saves its record. Of one that was over before, the keeper
// tells whether the kernel killed, and its end is what is recorded. To the keeper it is, too, that a daemon which is
// killed meanwhile leaves the word.
func (s *starter) lasts(e *entry, started *Container, saved bool) {
	_, unlock, err := s.open(s.base, e.id)
	if err != nil {
		return
	}
	defer unlock()
	rec := e.snapshot()
	if s.base.Err() != nil || !rec.State.Status.Alive() || !rec.State.Started.Equal(started.State.Started) {
		return
	}
	s.watchOOM(e, rec)
	if saved {
		return
	}
	next := *rec // records never change, not even their version
	if err := s.save(s.base, &next, soon); err != nil {
		s.log.Error("a start could not be recorded", "container", e.id, "error", err)
	}
}

// began gives the record what a run begins with.
func (c *Container) began(r spec.Running, held notes.Run) {
	st := &c.State
	st.Pid, st.Started, st.BootID = r.PID, r.Started.UTC(), held.BootID
	st.ExitCode, st.Error, st.OOMKilled, st.StoppedBy, st.Health = 0, "", false, StoppedBySelf, nil
	c.Sandbox, c.Cgroup = held.Sandbox, held.Cgroup
	c.Sandbox.NetNS = nil
	c.Networks = onNetworks(c.Networks, held.Sandbox)
}

// launchTries bounds how often a start is tried that a keeper's death cut short.
const launchTries = 3

func (s *starter) attempt(ctx context.Context, rec *Container) (*attempt, error) {
	a := &attempt{starter: s, rec: rec}
	err := a.run(ctx)
	for _, done := range a.held {
		done()
	}
	return a, err
}

// failed records why a start failed and makes the error that clients map to an exit code.
func (s *starter) failed(ctx context.Context, e *entry, cause error) error {
	ctx = context.WithoutCancel(ctx)
	code, err := startError("failed to create task for container: ", cause)
	failpoint.Hit("gantryd.start-failed")
	rec, serr := s.change(ctx, e, soon, func(c *Container) {
		c.State.ExitCode, c.State.Error, c.State.Pid = code, err.Error(), 0
		if c.State.Status == Restarting {
			c.moved(EvRestartOff)
		}
	})
	e.finish(true, exitResult{code: code, err: err.Error()})
	if serr != nil {
		return errors.Join(err, serr)
	}
	if rec.HostConfig.AutoRemove {
		if rerr := s.remove.removeLocked(ctx, e, RemoveOptions{Volumes: true, Force: true}); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// startError gives a failed start its exit code and text. Clients look for these
// words: "not found" and "no such file or directory" make 127, "permission denied"
// and "is a directory" 126, anything else 125 at the command line and 128 in the record.
func startError(prefix string, cause error) (int, error) {
	var le *spec.LaunchError
	if !errors.As(cause, &le) {
		return 128, cause
	}
	text := prefix + le.Text
	bad := func(code int) (int, error) { return code, classed.Errorf(errdefs.ErrInvalidArgument, "%s", text) }
	errno := syscall.Errno(le.Errno)
	switch {
	case le.Stage == "exec" && errno == syscall.ENOENT:
		if !strings.Contains(text, "executable file not found") && !strings.Contains(text, "no such file or directory") {
			text += ": no such file or directory"
		}
		return bad(127)
	case le.Stage == "exec" && (errno == syscall.EACCES || errno == syscall.EPERM):
		if !strings.Contains(text, "permission denied") && !strings.Contains(text, "is a directory") {
			text += ": permission denied"
		}
		return bad(126)
	case le.Stage == "exec" && errno == syscall.EISDIR:
		return bad(126)
	case le.Stage == "exec":
		return bad(126)
	case errno == syscall.ENOTDIR && (le.Stage == "mount" || le.Stage == "cwd"):
		return bad(127)
	}
	return 128, fmt.Errorf("%s", text)
}

// attempt is one try to start a container: every step pushes its undo.
type attempt struct {
	*starter
	rec     *Container
	undo    undo.Stack
	sandbox spec.Sandbox
	launch  spec.Launch
	note    notes.Run
	running spec.Running
	shm     string
	linked  []links.Target
	held    []func() // what is kept open until the launch is over
}

// run goes through the life of a run (docs/dev/life-of-a-run.md) as far as the
// launch. On success the caller commits or runs the undo stack.
func (a *attempt) run(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, a.undo.Run(ctx))
		}
	}()
	a.launch = spec.Launch{Key: a.rec.Key(), Stdin: a.rec.Config.OpenStdin, Log: a.rec.Log}
	for _, step := range []func(context.Context) error{a.root, a.network, a.files, a.cgroup, a.joins, a.start} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (a *attempt) root(ctx context.Context) (err error) {
	a.launch.Rootfs, err = a.Layers.Rootfs(ctx, a.rec.ID)
	return err
}

// network attaches the container; the sandbox's namespace goes into the launch.
func (a *attempt) network(ctx context.Context) error {
	if a.rec.HostConfig.NetworkMode.IsContainer() {
		return nil
	}
	var err error
	if a.linked, err = a.core.linked(a.rec, true); err != nil {
		return err
	}
	sb, err := a.Networks.Attach(ctx, a.sandboxRequest(a.rec))
	if err != nil {
		return fmt.Errorf("failed to set up container networking: %w", err)
	}
	failpoint.Hit("gantryd.start-network")
	a.sandbox = sb
	a.undo.Push("network", func(ctx context.Context) error { return a.Networks.Release(ctx, a.rec.ID, sb) })
	a.launch.NetNS = sb.NetNS
	return nil
}

func (a *attempt) cgroup(ctx context.Context) error {
	in := a.Config.specInput(a.rec)
	own, err := a.mountsOf(ctx)
	if err != nil {
		return err
	}
	in.Mounts, in.ShmPath = own, a.shm
	for _, t := range a.linked {
		in.Links = append(in.Links, t.Environment()...)
	}
	in.NetStart = a.sandbox.NetNS != nil
	in.JoinNet = a.sandbox.NetNS != nil || a.rec.HostConfig.NetworkMode.IsContainer()
	s, err := ocispec.Build(in)
	if err != nil {
		return err
	}
	parent := a.rec.HostConfig.CgroupParent
	if parent == "" {
		parent = a.Config.CgroupParent
	}
	failpoint.Hit("gantryd.start-files")
	cg, err := a.Cgroups.Create(ctx, a.rec.ID, parent, s.Linux.Resources)
	if err != nil {
		return err
	}
	if cg.Hold != nil {
		a.held, cg.Hold = append(a.held, cg.Hold), nil
	}
	a.undo.Push("cgroup", func(ctx context.Context) error { return a.Cgroups.Destroy(ctx, cg) })
	failpoint.Hit("gantryd.start-cgroup")
	s.Linux.CgroupsPath = cg.Path
	a.launch.OCI, a.launch.Cgroup = s, cg
	a.launch.UseInit = a.Config.Init
	if i := a.rec.HostConfig.Init; i != nil {
		a.launch.UseInit = *i
	}
	return nil
}

// joins names the containers whose namespaces are shared; each must run.
func (a *attempt) joins(context.Context) error {
	hc := a.rec.HostConfig
	for _, j := range []struct {
		on   bool
		id   string
		kind spec.NamespaceKind
		what string
	}{
		{hc.NetworkMode.IsContainer(), hc.NetworkMode.ConnectedContainer(), specs.NetworkNamespace, "network"},
		{hc.PidMode.IsContainer(), hc.PidMode.Container(), specs.PIDNamespace, "PID"},
		{hc.IpcMode.IsContainer(), hc.IpcMode.Container(), specs.IPCNamespace, "IPC"},
	} {
		if !j.on {
			continue
		}
		e, err := a.reg.get(j.id)
		if err != nil {
			return err
		}
		if other := e.snapshot(); !other.State.Status.Alive() {
			return classed.Conflict("cannot join %s namespace of a non running container: container %s is %s", j.what, other.Name, other.State.Status)
		}
		a.launch.Join = append(a.launch.Join, spec.Join{Kind: j.kind, Container: e.id})
	}
	return nil
}

func (a *attempt) start(ctx context.Context) (err error) {
	a.note = notes.Run{Sandbox: a.sandbox, Cgroup: a.launch.Cgroup, BootID: a.Config.BootID}
	if a.launch.Note, err = a.note.Encode(); err != nil {
		return err
	}
	a.running, err = a.Processes.Launch(ctx, a.launch)
	if err != nil {
		return err
	}
	failpoint.Hit("gantryd.start-launched")
	a.undo.Push("process", func(ctx context.Context) error {
		if err := a.Processes.Signal(ctx, a.launch.Key, int(syscall.SIGKILL)); !errdefs.IsNotFound(err) {
			return err
		}
		return nil
	})
	return nil
}

// mountsOf are the container's mount points and files as the runtime takes them.
func (a *attempt) mountsOf(context.Context) ([]specs.Mount, error) {
	var out []specs.Mount
	for _, m := range a.rec.Mounts {
		if m.Subpath != "" {
			p, done, err := a.HostMounts.Inside(m.Source, m.Subpath)
			if err != nil {
				return nil, fmt.Errorf("subpath %q of volume %s: %w", m.Subpath, m.Name, err)
			}
			a.held = append(a.held, done)
			m.Source = p
		}
		sm, err := m.OCI(a.Config.Host.RecursiveReadOnly)
		if err != nil {
			return nil, err
		}
		switch m.Propagation {
		case mount.PropagationShared, mount.PropagationRShared, mount.PropagationSlave, mount.PropagationRSlave:
			slave := m.Propagation == mount.PropagationSlave || m.Propagation == mount.PropagationRSlave
			if err := a.HostMounts.Propagates(m.Source, slave); err != nil {
				return nil, err
			}
		}
		out = append(out, sm)
	}
	own := map[string]bool{}
	for _, m := range a.rec.Mounts {
		own[m.Destination] = true
	}
	dir := a.filesDir()
	for _, f := range []string{"resolv.conf", "hostname", "hosts"} {
		if dst := "/etc/" + f; !own[dst] {
			out = append(out, specs.Mount{Destination: dst, Type: "bind", Source: filepath.Join(dir, f), Options: []string{"rbind", "rprivate"}})
		}
	}
	return out, nil
}
