package containers

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/spec"
)

var ctx = context.Background()

func status(s *Service, id string) Status {
	rec, err := s.Snapshot(ctx, id)
	if err != nil {
		return "gone"
	}
	return rec.State.Status
}

func TestRunAndExit(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	if n := w.saves["durable"]; n != 1 {
		t.Errorf("create made %d durable commits, 1 is the budget", n)
	}
	next, err := s.Wait(ctx, id, container.WaitConditionNextExit)
	if err != nil {
		t.Fatal(err)
	}
	w.taken()
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	want := []string{"rootfs", "attach net", "resolver", "cgroup", "launch"}
	if d := cmp.Diff(want, w.taken()); d != "" {
		t.Errorf("steps of a start (-want +got):\n%s", d)
	}
	if err := s.Start(ctx, id); !errors.Is(err, errdefs.ErrNotModified) {
		t.Errorf("second start: %v, want not modified", err)
	}
	w.end(spec.ProcessKey{Container: id}, spec.Exit{Code: 3})
	if r := <-next; r.StatusCode != 3 {
		t.Errorf("wait says %d, want 3", r.StatusCode)
	}
	rec, _ := s.Snapshot(ctx, id)
	if rec.State.Status != Exited || rec.State.ExitCode != 3 || rec.State.Pid != 0 {
		t.Errorf("state after the exit: %+v", rec.State)
	}
	now, _ := s.Wait(ctx, id, "")
	if r := <-now; r.StatusCode != 3 {
		t.Errorf("wait on an exited container says %d", r.StatusCode)
	}
	settled(t, s) // who waits is answered before the rest of the tear-down is over
	if len(w.nets)+len(w.cgroups) != 0 {
		t.Errorf("left after the exit: networks %v, cgroups %v", w.nets, w.cgroups)
	}
	if err := s.Start(ctx, id); err != nil { // the keeper has forgotten the first run
		t.Errorf("starting again: %v", err)
	}
	if d := cmp.Diff([]string{"create", "start", "die", "start"}, w.actions()); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if w.saves["durable"] != 1 {
		t.Errorf("the run made %d durable commits besides create's", w.saves["durable"]-1)
	}
}

func TestEveryFailedStepIsUndone(t *testing.T) {
	boom := errors.New("boom")
	undone := map[string][]string{
		"rootfs":     nil,
		"attach net": {"rootfs"},
		"resolver":   {"rootfs", "attach net", "release net"},
		"cgroup":     {"rootfs", "attach net", "resolver", "release net"},
		"launch":     {"rootfs", "attach net", "resolver", "cgroup", "destroy cgroup", "release net"},
	}
	for step, want := range undone {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			s := w.service()
			id := create(t, s)
			w.taken()
			w.fail[step] = boom
			if err := s.Start(ctx, id); !errors.Is(err, boom) {
				t.Fatalf("start: %v", err)
			}
			got := slices.DeleteFunc(w.taken(), func(s string) bool { return strings.HasPrefix(s, "save") })
			if d := cmp.Diff(want, got, cmp.Transformer("nil", func(s []string) string { return strings.Join(s, " ") })); d != "" {
				t.Errorf("steps (-want +got):\n%s", d)
			}
			if exists(s.Config.filesDir(id)) {
				t.Error("the container's files are still there")
			}
			if status(s, id) != Created {
				t.Errorf("state %s", status(s, id))
			}
		})
	}
	for _, step := range []string{"layer", "volume", "populate", "save durable", "check net"} {
		t.Run("create: "+step, func(t *testing.T) {
			w := newWorld(t)
			s := w.service()
			w.fail[step] = boom
			req := CreateRequest{Name: "xx", Config: &container.Config{Image: "busybox", Cmd: []string{"true"}, Volumes: map[string]struct{}{"/data": {}}}}
			if _, err := s.Create(ctx, req); !errors.Is(err, boom) {
				t.Fatalf("create: %v", err)
			}
			if len(w.layers)+len(w.volumes) != 0 {
				t.Errorf("left behind: layers %v, volumes %v", w.layers, w.volumes)
			}
			clear(w.fail)
			if _, err := s.Create(ctx, req); err != nil {
				t.Errorf("the name is still taken: %v", err)
			}
		})
	}
}

func TestAutoRemove(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s, func(r *CreateRequest) {
		r.HostConfig.AutoRemove = true
		r.Config.Volumes = map[string]struct{}{"/data": {}}
	})
	gone, _ := s.Wait(ctx, id, container.WaitConditionRemoved)
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	w.end(spec.ProcessKey{Container: id}, spec.Exit{Code: 7})
	if r := <-gone; r.StatusCode != 7 {
		t.Errorf("wait says %d", r.StatusCode)
	}
	if _, err := s.Snapshot(ctx, id); !errdefs.IsNotFound(err) || err.Error() != "No such container: "+id {
		t.Errorf("after --rm: %v", err)
	}
	// Its start is on no disk yet: a daemon that comes now would take it for one that never ran, and keep it.
	if w.mu.Lock(); len(w.forgotten) > 0 {
		t.Error("the keeper forgot the run before its container's record was gone")
	}
	w.mu.Unlock()
	if w.saves["durable"] != 0 {
		t.Errorf("a run with auto-remove made %d durable commits", w.saves["durable"])
	}
	if len(w.volumes)+len(w.layers)+len(w.records) != 0 {
		t.Errorf("left: %v %v %v", w.volumes, w.layers, w.records)
	}
}

func TestStopEscalates(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s, func(r *CreateRequest) {
		r.HostConfig.RestartPolicy = container.RestartPolicy{Name: "always"}
		r.Config.StopSignal = "SIGINT"
	})
	var got []int
	w.onSig = func(p *fakeProc, sig int) {
		w.mu.Lock()
		got = append(got, sig)
		w.mu.Unlock()
		if sig == 9 {
			go w.end(p.key, spec.Exit{Code: 137, Signal: 9})
		}
	}
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	zero := 0
	if err := s.Stop(ctx, id, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]int{2, 9}, got); d != "" {
		t.Errorf("signals (-want +got):\n%s", d)
	}
	rec, _ := s.Snapshot(ctx, id)
	if rec.State.Status != Exited || rec.State.StoppedBy != StoppedByUser {
		t.Errorf("a container stopped by the user is %s, by %d: the policy must not start it again", rec.State.Status, rec.State.StoppedBy)
	}
	if err := s.Stop(ctx, id, StopOptions{}); !errors.Is(err, errdefs.ErrNotModified) {
		t.Errorf("second stop: %v", err)
	}
	if err := s.Kill(ctx, id, "TERM"); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "is not running") {
		t.Errorf("kill: %v", err)
	}
}

func TestRestartPolicy(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	var clock fakeClock
	s.core.after = clock.after
	id := create(t, s, func(r *CreateRequest) {
		r.HostConfig.RestartPolicy = container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 3}
	})
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		w.end(spec.ProcessKey{Container: id}, spec.Exit{Code: 1})
		eventually(t, "restarting", func() bool { return status(s, id) == Restarting })
		if i == 1 {
			if err := s.Pause(ctx, id); !errdefs.IsConflict(err) {
				t.Errorf("pause while restarting: %v", err)
			}
		}
		eventually(t, "running again", func() bool { clock.fire(); return status(s, id) == Running })
	}
	w.end(spec.ProcessKey{Container: id}, spec.Exit{Code: 1})
	eventually(t, "retries used up", func() bool { return status(s, id) == Exited })
	if d := cmp.Diff([]time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}, clock.waits()); d != "" {
		t.Errorf("back-off (-want +got):\n%s", d)
	}
	if rec, _ := s.Snapshot(ctx, id); rec.RestartCount != 3 {
		t.Errorf("restart count %d", rec.RestartCount)
	}
}

func TestStopCallsOffRestart(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s, func(r *CreateRequest) { r.HostConfig.RestartPolicy = container.RestartPolicy{Name: "always"} })
	var clock fakeClock
	s.core.after = clock.after
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	w.end(spec.ProcessKey{Container: id}, spec.Exit{Code: 1})
	eventually(t, "restarting", func() bool { return status(s, id) == Restarting })
	settled(t, s)
	if err := s.Stop(ctx, id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(clock.waits()) != 1 {
		t.Fatal("no restart was scheduled")
	}
	for clock.fire() {
	}
	time.Sleep(10 * time.Millisecond) // what is due runs in a goroutine of its own
	if st := status(s, id); st != Exited {
		t.Errorf("after stop: %s", st)
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s, func(r *CreateRequest) { r.Name = "web" })
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	err := s.Remove(ctx, "web", RemoveOptions{})
	want := `cannot remove container "/web": container is running: stop the container before removing or force remove`
	if !errdefs.IsConflict(err) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := s.Remove(ctx, "web", RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	settled(t, s)
	if len(w.layers)+len(w.records)+len(w.nets)+len(w.cgroups)+len(w.procs) != 0 {
		t.Error("something is left after rm -f")
	}
	if err := s.Remove(ctx, "web", RemoveOptions{Link: true}); !errdefs.IsNotImplemented(err) {
		t.Errorf("link: %v", err)
	}
}

func TestLaunchErrorsHaveExitCodes(t *testing.T) {
	for _, c := range []struct {
		le   spec.LaunchError
		code int
		text string
	}{
		{spec.LaunchError{Stage: "exec", Path: "nope", Errno: int(syscall.ENOENT), Text: `exec: "nope": executable file not found in $PATH`}, 127, "executable file not found"},
		{spec.LaunchError{Stage: "exec", Errno: int(syscall.EACCES), Text: `exec: "/etc/passwd": permission denied`}, 126, "permission denied"},
		{spec.LaunchError{Stage: "exec", Errno: int(syscall.EISDIR), Text: `exec: "/": is a directory`}, 126, "is a directory"},
		{spec.LaunchError{Stage: "mount", Errno: int(syscall.EINVAL), Text: "mounting /x: invalid argument"}, 128, "mounting"},
	} {
		w := newWorld(t)
		s := w.service()
		id := create(t, s)
		w.fail["launch"] = &c.le
		err := s.Start(ctx, id)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.le.Text, err)
		}
		if rec, _ := s.Snapshot(ctx, id); rec.State.ExitCode != c.code || rec.State.Error == "" {
			t.Errorf("%s: exit code %d, want %d", c.le.Text, rec.State.ExitCode, c.code)
		}
	}
}

func TestPause(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := s.Pause(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := s.Pause(ctx, id); err == nil || err.Error() != "Container "+id+" is already paused" {
		t.Errorf("second pause: %v", err)
	}
	if _, err := s.ExecCreate(ctx, id, container.ExecCreateRequest{Cmd: []string{"ls"}}); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "unpause the container before exec") {
		t.Errorf("exec in a paused container: %v", err)
	}
	if err := s.Unpause(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := s.Unpause(ctx, id); err == nil || err.Error() != "Container "+id+" is not paused" {
		t.Errorf("second unpause: %v", err)
	}
}

func TestAttachBeforeStartSeesEverything(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	var out, errOut bytes.Buffer
	opened, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.Attach(ctx, id, AttachOptions{Stdout: true, Stderr: true, Stream: true, Open: func(mux bool) (Streams, error) {
			if !mux {
				t.Error("without a terminal the output needs frames")
			}
			close(opened)
			return Streams{Stdout: &out, Stderr: &errOut}, nil
		}})
	}()
	<-opened
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	key := spec.ProcessKey{Container: id}
	w.procs[key].out <- spec.Chunk{Stream: spec.Stdout, Data: []byte("one")}
	w.procs[key].out <- spec.Chunk{Stream: spec.Stderr, Data: []byte("two")}
	eventually(t, "the client follows", func() bool { return len(w.procs[key].out) == 0 })
	w.end(key, spec.Exit{})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if out.String() != "one" || errOut.String() != "two" {
		t.Errorf("got %q and %q", out.String(), errOut.String())
	}
}

func TestExec(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	if _, err := s.ExecCreate(ctx, id, container.ExecCreateRequest{Cmd: []string{"ls"}}); !errdefs.IsConflict(err) {
		t.Errorf("exec in a container that does not run: %v", err)
	}
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	x, err := s.ExecCreate(ctx, id, container.ExecCreateRequest{Cmd: []string{"ls", "/"}, User: "me", Env: []string{"A=b"}, WorkingDir: "/tmp"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ExecStart(ctx, x, ExecStartOptions{Detach: true}); err != nil {
		t.Fatal(err)
	}
	key := spec.ProcessKey{Container: id, Exec: x}
	p := w.procs[key].launch.OCI.Process
	if d := cmp.Diff([]string{"ls", "/"}, p.Args); d != "" || p.Cwd != "/tmp" || p.User.Username != "me" || !slices.Contains(p.Env, "A=b") {
		t.Errorf("process %+v", p)
	}
	if err := s.ExecStart(ctx, x, ExecStartOptions{Detach: true}); !errdefs.IsConflict(err) {
		t.Errorf("second start: %v", err)
	}
	w.end(key, spec.Exit{Code: 5})
	eventually(t, "the exec has ended", func() bool { i, _ := s.ExecInspect(ctx, x); return i.ExitCode != nil })
	if i, _ := s.ExecInspect(ctx, x); *i.ExitCode != 5 || i.Running {
		t.Errorf("inspect %+v", i)
	}
	if _, err := s.ExecInspect(ctx, "nope"); !errdefs.IsNotFound(err) {
		t.Errorf("unknown exec: %v", err)
	}
}

// fakeClock stands in for time: what is scheduled runs when the test says so.
type fakeClock struct {
	mu      sync.Mutex
	pending []func()
	delays  []time.Duration
}

func (c *fakeClock) after(d time.Duration, f func()) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, f)
	c.delays = append(c.delays, d)
	return func() {}
}

// waits are how long restarts had to wait.
func (c *fakeClock) waits() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.delays), func(d time.Duration) bool { return d == lasting })
}

// fire runs what was scheduled first, if anything.
func (c *fakeClock) fire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 {
		return false
	}
	go c.pending[0]()
	c.pending = c.pending[1:]
	return true
}

func TestRestartKeepsAutoRemoveContainer(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s, func(r *CreateRequest) { r.HostConfig.AutoRemove = true })
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(ctx, id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if status(s, id) != Running {
		t.Fatalf("after restart: %s", status(s, id))
	}
	w.end(spec.ProcessKey{Container: id}, spec.Exit{})
	eventually(t, "removed at last", func() bool { return status(s, id) == "gone" })
}
