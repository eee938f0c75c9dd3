package containers

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/containers/detach"
	"github.com/gantry-engine/gantry/internal/service/containers/names"
	"github.com/gantry-engine/gantry/internal/service/containers/ocispec"
	"github.com/gantry-engine/gantry/internal/spec"
)

// execKeep is how long an ended exec can still be inspected.
const execKeep = 5 * time.Minute

// exitGrace is how long a stream stays open behind the last output for the exit that
// follows it; a process that closed its output may run on without it.
const exitGrace = time.Second

// execs are the further processes of containers. They live in memory, with a note
// of those that run for the next daemon; the keeper ends them with their container.
type execs struct {
	*core
	mu   sync.Mutex
	byID map[string]*execProc
}

func newExecs(c *core) *execs { return &execs{core: c, byID: map[string]*execProc{}} }

// execProc is one further process.
type execProc struct {
	id    string
	owner *entry
	req   container.ExecCreateRequest
	keys  []byte

	mu      sync.Mutex
	begun   bool // started, or about to be
	running bool
	pid     int
	code    *int
	r       *run
}

func (p *execProc) key() spec.ProcessKey {
	return spec.ProcessKey{Container: p.owner.id, Exec: p.id}
}

// ExecCreate registers a process to be run in a running container and returns its ID.
func (x *execs) ExecCreate(_ context.Context, ref string, req container.ExecCreateRequest) (string, error) {
	e, err := x.reg.get(ref)
	if err != nil {
		return "", err
	}
	rec := e.snapshot()
	if _, why := Next(rec.State.Status, EvExec); why == execPaused {
		return "", why.For(ref) // in the words of the request, as clients know it
	} else if why != nil {
		return "", why.For(rec.ID)
	}
	if len(req.Cmd) == 0 || req.Cmd[0] == "" {
		return "", classed.Invalid("no exec command specified")
	}
	keys, err := detach.Parse(req.DetachKeys)
	if err != nil {
		return "", err
	}
	for _, v := range req.Env {
		if v == "" || strings.HasPrefix(v, "=") {
			return "", classed.Invalid("invalid environment variable: %s", v)
		}
	}
	p := x.add(e, req, keys)
	x.publish(rec, events.Action(string(events.ActionExecCreate)+": "+strings.Join(req.Cmd, " ")), map[string]string{"execID": p.id})
	return p.id, nil
}

func (x *execs) add(e *entry, req container.ExecCreateRequest, keys []byte) *execProc {
	p := &execProc{id: names.NewID(), owner: e, req: req, keys: keys, r: newRun()}
	x.keep(p)
	return p
}

// keep makes an exec known.
func (x *execs) keep(p *execProc) {
	x.mu.Lock()
	x.byID[p.id] = p
	x.mu.Unlock()
	e := p.owner
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.execs == nil {
		e.execs = map[string]bool{}
	}
	e.execs[p.id] = true
}

func (x *execs) get(id string) (*execProc, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.byID[id]
	if p == nil {
		return nil, classed.Errorf(errdefs.ErrNotFound, "No such exec instance: %s", id)
	}
	return p, nil
}

// ExecStartOptions are what starting an exec takes.
type ExecStartOptions struct {
	Detach      bool
	Tty         bool
	ConsoleSize *[2]uint // height, width
	Open        Opener   // nil when detached
}

// ExecStart runs the process. Attached, it returns when the process has ended, the
// client left or typed the detach keys; detached, once it runs.
func (x *execs) ExecStart(ctx context.Context, id string, o ExecStartOptions) error {
	p, err := x.get(id)
	if err != nil {
		return err
	}
	rec := p.owner.snapshot()
	if err := rec.may(EvExec); err != nil {
		return err
	}
	p.mu.Lock()
	if p.begun {
		defer p.mu.Unlock()
		if p.running {
			return classed.Conflict("exec command %s is already running", id)
		}
		return classed.Conflict("exec command %s has already run", id)
	}
	p.begun = true
	if o.ConsoleSize != nil {
		p.req.ConsoleSize = o.ConsoleSize
	}
	p.mu.Unlock()
	if o.Detach || o.Open == nil {
		return x.launch(ctx, p, rec)
	}
	out, err := x.Outputs.Follow(ctx, p.key())
	if err != nil {
		p.finish(exitResult{code: 126}, true)
		return err
	}
	defer out.Close()
	st, err := o.Open(!p.req.Tty)
	if err != nil {
		p.finish(exitResult{code: 126}, true)
		return err
	}
	if err := x.launch(ctx, p, rec); err != nil {
		return err
	}
	return x.attach(ctx, p, st, out)
}

func (x *execs) attach(ctx context.Context, p *execProc, st Streams, out OutputReader) error {
	s := session{processes: x.Processes, key: p.key(), streams: st, out: out, run: p.r,
		stdin: p.req.AttachStdin, once: !p.req.Tty, wantOut: p.req.AttachStdout, wantErr: p.req.AttachStderr}
	if p.req.Tty {
		s.keys = p.keys
	}
	err := s.copy(ctx)
	if errors.Is(err, detach.ErrDetached) {
		x.publish(p.owner.snapshot(), events.ActionExecDetach, map[string]string{"execID": p.id})
		return nil
	}
	if s.over { // clients ask for the exit code as soon as the stream ends: let it be there
		select {
		case <-p.r.ended:
		case <-ctx.Done():
		case <-time.After(exitGrace):
		}
	}
	return err
}

// launch starts the process in its container.
func (x *execs) launch(ctx context.Context, p *execProc, rec *Container) error {
	s, err := ocispec.Exec(x.Config.specInput(rec), &p.req, x.Config.Host)
	if err == nil {
		var running spec.Running
		x.publish(rec, events.Action(string(events.ActionExecStart)+": "+strings.Join(p.req.Cmd, " ")), map[string]string{"execID": p.id})
		p.mu.Lock()
		p.running = true
		p.mu.Unlock()
		x.note(p)
		failpoint.Hit("gantryd.exec-noted")
		running, err = x.Processes.Launch(ctx, spec.Launch{Key: p.key(), OCI: s, Cgroup: rec.Cgroup, Stdin: p.req.AttachStdin})
		if err == nil {
			failpoint.Hit("gantryd.exec-launched")
			p.mu.Lock()
			p.pid = running.PID
			p.mu.Unlock()
			p.r.once.Do(func() { close(p.r.started) })
			return nil
		}
	}
	code, err := startError("OCI runtime exec failed: ", err)
	p.finish(exitResult{code: code, err: err.Error()}, true)
	x.later(p)
	return err
}

func (p *execProc) finish(res exitResult, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.code != nil {
		return
	}
	p.code, p.running, p.pid = &res.code, false, 0
	p.r.exit, p.r.failed = res, failed
	close(p.r.ended)
}

// exited takes the exit of an exec from the keeper.
func (x *execs) exited(ctx context.Context, ex spec.Exit) {
	failpoint.Hit("gantryd.exec-exit")
	if p, err := x.get(ex.Key.Exec); err == nil {
		p.finish(exitResult{code: ex.Code}, false)
		x.publish(p.owner.snapshot(), events.ActionExecDie, map[string]string{"execID": p.id, "exitCode": strconv.Itoa(ex.Code)})
		x.later(p)
	}
	failpoint.Hit("gantryd.exec-struck")
	if err := x.Lifetimes.Forget(ctx, ex.Key); err != nil && !errdefs.IsNotFound(err) {
		x.log.Warn("an ended exec could not be forgotten", "process", ex.Key, "error", err)
	}
}

// later takes an ended exec out of its container's list now and out of memory in a while.
func (x *execs) later(p *execProc) {
	p.owner.mu.Lock()
	delete(p.owner.execs, p.id)
	p.owner.mu.Unlock()
	x.notes(p.owner.id).Drop(p.id)
	x.after(execKeep, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.byID, p.id)
	})
}

// dropAll forgets the exec instances of a container whose run has ended, those
// never started included.
func (x *execs) dropAll(e *entry) {
	for _, id := range e.execIDs() {
		if p, err := x.get(id); err == nil {
			p.mu.Lock()
			idle := !p.begun
			p.mu.Unlock()
			if idle {
				x.later(p)
			}
		}
	}
}

// ExecInspect tells how an exec is doing.
func (x *execs) ExecInspect(_ context.Context, id string) (container.ExecInspectResponse, error) {
	p, err := x.get(id)
	if err != nil {
		return container.ExecInspectResponse{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	priv := p.req.Privileged
	return container.ExecInspectResponse{
		ID: p.id, Running: p.running, ExitCode: p.code, Pid: p.pid, ContainerID: p.owner.id,
		OpenStdin: p.req.AttachStdin, OpenStdout: p.req.AttachStdout, OpenStderr: p.req.AttachStderr,
		CanRemove: p.code != nil, DetachKeys: p.keys,
		ProcessConfig: &container.ExecProcessConfig{Tty: p.req.Tty, Entrypoint: p.req.Cmd[0], Arguments: p.req.Cmd[1:], Privileged: &priv, User: p.req.User},
	}, nil
}

// ExecResize sets the size of an exec's terminal in characters.
func (x *execs) ExecResize(ctx context.Context, id string, height, width uint16) error {
	p, err := x.get(id)
	if err != nil {
		return err
	}
	select { // a client resizes as soon as it has attached: the start may still be under way
	case <-p.r.started:
	case <-p.r.ended:
	case <-time.After(10 * time.Second):
		return classed.Errorf(context.DeadlineExceeded, "timeout waiting for exec session ready")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-p.r.ended:
		return classed.Errorf(errdefs.ErrNotFound, "exec %s has ended: it has no terminal any more", id)
	default:
	}
	return x.Processes.Resize(ctx, p.key(), height, width)
}

// maxProbeOutput bounds what is kept of a health probe's output, in bytes.
const maxProbeOutput = 4096

// probe runs a command in a container to its end and returns its exit code and output.
func (x *execs) probe(ctx context.Context, e *entry, cmd []string, timeout time.Duration) (code int, output string, err error) {
	rec := e.snapshot()
	p := x.add(e, container.ExecCreateRequest{Cmd: cmd, AttachStdout: true, AttachStderr: true}, nil)
	p.mu.Lock()
	p.begun = true
	p.mu.Unlock()
	defer x.later(p)
	label := events.Action(": " + strings.Join(cmd, " "))
	x.publish(rec, events.ActionExecCreate+label, map[string]string{"execID": p.id})
	out, err := x.Outputs.Follow(ctx, p.key())
	if err != nil {
		return -1, "", err
	}
	defer out.Close()
	if err := x.launch(ctx, p, rec); err != nil {
		return -1, err.Error(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var text []byte
	for {
		c, err := out.Next(ctx)
		if err != nil {
			break
		}
		text = append(text, c.Data[:min(len(c.Data), maxProbeOutput-len(text))]...)
	}
	select {
	case <-p.r.ended:
		return p.r.exit.code, string(text), nil
	default:
	}
	select {
	case <-p.r.ended:
		return p.r.exit.code, string(text), nil
	case <-ctx.Done():
		_ = x.Processes.Signal(context.WithoutCancel(ctx), p.key(), int(syscall.SIGKILL))
		return -1, "Health check exceeded timeout (" + timeout.String() + ")", context.Cause(ctx)
	}
}
