package containers

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// RemoveOptions are what DELETE /containers/{id} takes.
type RemoveOptions struct {
	Volumes bool // anonymous volumes too
	Force   bool // end it first if it runs
	Link    bool // remove a link instead: not supported
}

type remover struct{ *core }

// Remove deletes a container with its writable layer and files.
func (r *remover) Remove(ctx context.Context, ref string, opts RemoveOptions) error {
	if opts.Link {
		return classed.Unsupported("removing links (link=true)")
	}
	e, unlock, err := r.open(ctx, ref)
	if err != nil {
		return err
	}
	rec := e.snapshot()
	if rec.Running() && opts.Force {
		unlock()
		if err := r.end(ctx, e); err != nil {
			return err
		}
		if e, unlock, err = r.open(ctx, rec.ID); err != nil {
			if errdefs.IsNotFound(err) { // auto-remove was quicker
				return nil
			}
			return err
		}
	}
	defer unlock()
	return r.removeLocked(ctx, e, opts)
}

// end kills a running container and waits, without its lock.
func (r *remover) end(ctx context.Context, e *entry) error {
	unlock, err := r.locks.Lock(ctx, e.id)
	if err != nil {
		return err
	}
	rec, present := e.snapshot(), e.current()
	if rec.State.Status == Restarting {
		defer unlock()
		return r.callOffRestart(ctx, e, StoppedByUser)
	}
	if !rec.State.Status.Alive() {
		unlock()
		return nil
	}
	e.setStopping(true)
	err = r.Processes.Signal(ctx, rec.Key(), int(syscall.SIGKILL))
	if err == nil && rec.State.Status == Paused {
		err = r.thaw(ctx, rec)
	}
	unlock()
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	r.publish(rec, events.ActionKill, map[string]string{"signal": "9"})
	t := time.NewTimer(killPatience)
	defer t.Stop()
	select {
	case <-present.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return classed.Errorf(context.DeadlineExceeded, "cannot remove container %q: could not kill: it did not end within %v after SIGKILL", "/"+rec.Name, killPatience)
	}
}

// removeLocked removes a container that does not run. The caller holds its lock.
// The record goes first: what is left after a crash is swept as an orphan, never
// a record without its files.
func (r *remover) removeLocked(ctx context.Context, e *entry, opts RemoveOptions) error {
	rec := e.snapshot()
	ev := EvRemove
	if opts.Force {
		ev = EvRemoveForce
	}
	to, why := Next(rec.State.Status, ev)
	if why == nil && to != Removing { // forced, but started again meanwhile
		why = removeRunning
	}
	if why != nil {
		if errors.Is(why.Class, errdefs.ErrConflict) && rec.Running() {
			return why.For("/" + rec.Name)
		}
		return why.For(rec.ID)
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := r.change(ctx, e, inMemory, func(c *Container) { c.moved(ev) }); err != nil {
		return err
	}
	failpoint.Hit("gantryd.remove-marked")
	if err := r.discard(ctx, e, rec, opts.Volumes); err != nil {
		_, serr := r.change(ctx, e, soon, func(c *Container) { c.moved(EvRemoveFailed); c.State.Error = err.Error() })
		return errors.Join(err, serr)
	}
	failpoint.Hit("gantryd.remove-gone")
	r.reg.drop(e)
	r.publish(rec, events.ActionDestroy, nil)
	failpoint.Hit("gantryd.remove-told")
	e.markRemoved()
	return nil
}

func (r *remover) discard(ctx context.Context, e *entry, rec *Container, volumes bool) error {
	if err := r.noteRemoval(rec, volumes); err != nil {
		return err
	}
	if err := r.Records.RemoveSoon(ctx, rec.ID); err != nil {
		return err
	}
	failpoint.Hit("gantryd.remove-record")
	errs := []error{r.Layers.Remove(ctx, rec.ID)}
	failpoint.Hit("gantryd.remove-layer")
	for _, m := range rec.Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		errs = append(errs, r.Volumes.Release(ctx, m.Name, rec.ID))
		if m.Anonymous && volumes {
			if err := r.Volumes.Remove(ctx, m.Name, false); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
				errs = append(errs, err) // in use by another container: it stays
			}
		}
	}
	failpoint.Hit("gantryd.remove-volumes")
	finish := func() error { return nil }
	if !rec.Volatile { // else it is that of its files
		var err error
		finish, err = r.folders.Away(r.Config.dir(rec))
		errs = append(errs, err)
	}
	failpoint.Hit("gantryd.remove-folder")
	errs = append(errs, r.disown(rec), r.unfinished.End(rec.ID))
	r.behind.Go(func() {
		e.awaitTearDown()
		err := errors.Join(r.dropShared(rec), os.RemoveAll(r.Config.filesDir(rec.ID)), finish())
		failpoint.Hit("gantryd.remove-files")
		if err != nil {
			r.log.Error("the files of a removed container could not be deleted: the next start of the engine tries again", "container", rec.ID, "error", err)
		}
	})
	return errors.Join(errs...)
}

// noteRemoval notes what goes with a container, if there is anything that would not be swept anyway.
func (r *remover) noteRemoval(rec *Container, volumes bool) error {
	var names []string
	for _, m := range rec.Mounts {
		if volumes && m.Anonymous && m.Type == mount.TypeVolume {
			names = append(names, m.Name)
		}
	}
	if rec.Volatile && len(names) == 0 {
		return nil
	}
	return r.unfinished.Begin(rec.ID, names...)
}

// disown forgets whose the volumes of an auto-remove container are.
func (r *remover) disown(rec *Container) error {
	if !rec.Volatile {
		return nil
	}
	var errs []error
	for _, m := range rec.Mounts {
		if m.Anonymous && m.Type == mount.TypeVolume {
			errs = append(errs, r.owners.Drop(m.Name))
		}
	}
	return errors.Join(errs...)
}
