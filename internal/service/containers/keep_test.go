package containers

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"

	"github.com/gantry-engine/gantry/internal/spec"
)

// TestExecOutlivesTheDaemon: the next daemon inspects an exec and takes in its exit.
func TestExecOutlivesTheDaemon(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	x, err := s.ExecCreate(ctx, id, container.ExecCreateRequest{Cmd: []string{"sleep", "9"}, User: "me", Env: []string{"SECRET=1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ExecStart(ctx, x, ExecStartOptions{Detach: true}); err != nil {
		t.Fatal(err)
	}
	s2 := restart(w, s)
	i, err := s2.ExecInspect(ctx, x)
	if err != nil {
		t.Fatal(err)
	}
	if !i.Running || i.Pid != 4242 || i.ContainerID != id || i.ProcessConfig.Entrypoint != "sleep" || i.ProcessConfig.User != "me" {
		t.Errorf("inspect %+v", i)
	}
	if err := s2.ExecStart(ctx, x, ExecStartOptions{Detach: true}); !errdefs.IsConflict(err) {
		t.Errorf("started again: %v", err)
	}
	w.end(spec.ProcessKey{Container: id, Exec: x}, spec.Exit{Code: 6})
	eventually(t, "the exec has ended", func() bool { i, _ := s2.ExecInspect(ctx, x); return i.ExitCode != nil && *i.ExitCode == 6 })

	s3 := restart(w, s2)
	if _, err := s3.ExecInspect(ctx, x); !errdefs.IsNotFound(err) {
		t.Errorf("an exec that ended under a former daemon: %v", err)
	}
}

// TestHealthOutlivesTheDaemon: a container that was healthy does not start over.
func TestHealthOutlivesTheDaemon(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s, func(r *CreateRequest) {
		r.Config.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Hour}
	})
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	e := s.reg.byID(id)
	s.starter.health.result(e, e.snapshot().Config.Healthcheck, &container.HealthcheckResult{Output: "fine"}, time.Minute)
	s2 := restart(w, s)
	rec, _ := s2.Snapshot(ctx, id)
	if h := s2.core.reg.byID(rec.ID).health.Load(); h == nil || h.Status != container.Healthy || len(h.Log) != 1 {
		t.Errorf("after the restart: %+v", h)
	}
	endAndWait(t, w, s2, id)
	s3 := restart(w, s2)
	rec, _ = s3.Snapshot(ctx, id)
	if h := s3.core.reg.byID(rec.ID).health.Load(); h == nil || h.Status != container.Unhealthy {
		t.Errorf("stopped, after a restart: %+v", h)
	}
	if err := s3.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	rec, _ = s3.Snapshot(ctx, id)
	if h := s3.core.reg.byID(rec.ID).health.Load(); h == nil || h.Status != container.Starting {
		t.Errorf("started anew: %+v", h)
	}
}

// endAndWait ends a container's process and waits until everything that follows is done.
func endAndWait(t *testing.T, w *world, s *Service, id string) {
	t.Helper()
	done, err := s.Wait(ctx, id, container.WaitConditionNextExit)
	if err != nil {
		t.Fatal(err)
	}
	w.end(spec.ProcessKey{Container: id}, spec.Exit{})
	<-done
	eventually(t, "the keeper was told to forget", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.dead) == 0 })
}

func TestSharedMemoryIsMountedForOneRun(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s, func(r *CreateRequest) { r.HostConfig.IpcMode, r.HostConfig.ShmSize = "shareable", 1<<20 })
	w.taken()
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	if steps := w.taken(); !slices.Contains(steps, "shm shm 1048576") {
		t.Errorf("start did %v", steps)
	}
	endAndWait(t, w, s, id)
	if steps := w.taken(); !slices.Contains(steps, "unmount shm") {
		t.Errorf("the exit did %v", steps)
	}
	w.mu.Lock()
	w.fail["launch"] = errdefs.ErrInternal
	w.mu.Unlock()
	if err := s.Start(ctx, id); err == nil {
		t.Fatal("it started")
	}
	if steps := w.taken(); !slices.Contains(steps, "unmount shm") {
		t.Errorf("the failed start did %v", steps)
	}
}

func TestVolumeSubpath(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	with := func(sub string) func(*CreateRequest) {
		return func(r *CreateRequest) {
			r.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "data", Target: "/d", VolumeOptions: &mount.VolumeOptions{Subpath: sub}}}
		}
	}
	req := CreateRequest{Config: &container.Config{Image: "busybox", Cmd: []string{"true"}}, HostConfig: &container.HostConfig{}}
	with("../x")(&req)
	if _, err := s.Create(ctx, req); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a subpath outside: %v", err)
	}
	id := create(t, s, with("a/b"))
	w.taken()
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	steps := strings.Join(w.taken(), "|")
	if look, launch, letGo := strings.Index(steps, "look up a/b"), strings.Index(steps, "launch"), strings.Index(steps, "let go of a/b"); look < 0 || look > launch || launch > letGo {
		t.Errorf("steps %s", steps)
	}
	var source string
	for _, m := range w.procs[spec.ProcessKey{Container: id}].launch.OCI.Mounts {
		if m.Destination == "/d" {
			source = m.Source
		}
	}
	if !strings.HasSuffix(source, "/a/b") {
		t.Errorf("mounted from %q", source)
	}
}

// TestVolumeEvents: a volume is mounted with the start, not with the create.
func TestVolumeEvents(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s, func(r *CreateRequest) { r.HostConfig.Binds = []string{"data:/d:ro"} })
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	w.end(spec.ProcessKey{Container: id}, spec.Exit{})
	eventually(t, "ended", func() bool { return status(s, id) == Exited && slices.Contains(w.actions(), "unmount") })
	var got []string
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.events {
		got = append(got, string(m.Type)+" "+string(m.Action))
		if m.Action == events.ActionMount {
			if a := m.Actor.Attributes; m.Actor.ID != "data" || a["container"] != id || a["destination"] != "/d" || a["read/write"] != "false" {
				t.Errorf("mount of %s: %v", m.Actor.ID, a)
			}
		}
	}
	if want := "container create|volume mount|container start|container die|volume unmount"; strings.Join(got, "|") != want {
		t.Errorf("events %v", got)
	}
}

// TestAttachToARunThatNeverWas: a client must not wait for output for ever.
func TestAttachToARunThatNeverWas(t *testing.T) {
	for name, never := range map[string]func(w *world, s *Service, id string) error{
		"the start fails": func(w *world, s *Service, id string) error {
			w.fail["launch"] = errdefs.ErrInternal
			if s.Start(ctx, id) == nil {
				return errors.New("it started")
			}
			return nil
		},
		"removed": func(_ *world, s *Service, id string) error { return s.Remove(ctx, id, RemoveOptions{}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.service()
			id := create(t, s)
			open, done := make(chan struct{}), make(chan error, 1)
			go func() {
				done <- s.Attach(ctx, id, AttachOptions{Stdout: true, Stream: true, Open: func(bool) (Streams, error) {
					close(open)
					return Streams{Stdout: io.Discard}, nil
				}})
			}()
			<-open
			if err := never(w, s, id); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
