package containers

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/spec"
)

// copier reads and writes containers' file trees, running or not.
type copier struct{ *core }

// view opens the container's file tree. Closing it gives back what was taken for it.
func (c *copier) view(ctx context.Context, ref string) (*Container, View, error) {
	e, err := c.reg.get(ref)
	if err != nil {
		return nil, nil, err
	}
	rec := e.snapshot()
	if rec.State.Status == Removing || rec.State.Status == Dead {
		return nil, nil, classed.Conflict("container %s is marked for removal and has no file system any more", rec.ID)
	}
	rootfs, err := c.Layers.Rootfs(ctx, rec.ID)
	if err != nil {
		return nil, nil, err
	}
	if rec.State.Status.Alive() {
		v, err := c.Views.Open(ctx, rootfs, nil, rec.State.Pid)
		if err == nil || !errdefs.IsNotFound(err) {
			return rec, v, err
		}
		rec = e.snapshot() // it ended meanwhile
	}
	v, err := c.stoppedView(ctx, rec, rootfs)
	return rec, v, err
}

// stoppedView opens a stopped container's tree with its volumes, which stay mounted until it is closed.
func (c *copier) stoppedView(ctx context.Context, rec *Container, rootfs spec.Rootfs) (_ View, err error) {
	var u undo.Stack
	defer u.OnError(ctx, &err)
	for _, m := range rec.Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		if _, err := c.Volumes.Acquire(ctx, m.Name, rec.ID); err != nil {
			return nil, err
		}
		u.Push("hold on volume "+m.Name, func(ctx context.Context) error { return c.Volumes.Release(ctx, m.Name, rec.ID) })
	}
	v, err := c.Views.Open(ctx, rootfs, viewMounts(rec), 0)
	if err != nil {
		return nil, err
	}
	held := u
	return &heldView{View: v, release: sync.OnceValue(func() error { return held.Run(context.WithoutCancel(ctx)) })}, nil
}

// heldView is a view with something to give back after it.
type heldView struct {
	View
	release func() error
}

func (v *heldView) Close() error { return errors.Join(v.View.Close(), v.release()) }

// viewMounts are the mounts that a stopped container's tree shows. A volume's subpath is
// not joined here: whoever mounts resolves it inside the volume.
func viewMounts(rec *Container) []specs.Mount {
	var out []specs.Mount
	if rec.HostConfig.ReadonlyRootfs {
		out = append(out, specs.Mount{Destination: "/", Options: []string{"ro"}})
	}
	for _, m := range rec.Mounts {
		if m.Source == "" || m.Type == mount.TypeTmpfs {
			continue
		}
		kind := "rbind"
		if m.NonRecursive {
			kind = "bind"
		}
		opts := []string{kind}
		if !m.RW {
			opts = append(opts, "ro")
		}
		if m.Subpath != "" {
			opts = append(opts, "subpath="+m.Subpath)
		}
		out = append(out, specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Source, Options: opts})
	}
	slices.SortStableFunc(out, func(a, b specs.Mount) int { return strings.Compare(a.Destination, b.Destination) })
	return out
}

// fileError gives a path that is not there Docker's text.
func fileError(err error, p, ref string) error {
	if errdefs.IsNotFound(err) {
		return classed.Errorf(errdefs.ErrNotFound, "Could not find the file %s in container %s", p, ref)
	}
	return err
}

// StatPath describes the file at p.
func (c *copier) StatPath(ctx context.Context, ref, p string) (PathStat, error) {
	_, v, err := c.view(ctx, ref)
	if err != nil {
		return PathStat{}, err
	}
	defer v.Close()
	st, err := v.Stat(p)
	return st, fileError(err, p, ref)
}

// closing closes the view together with its stream.
type closing struct {
	*io.PipeReader
	stop context.CancelCauseFunc
	done chan struct{}
}

func (c *closing) Close() error {
	c.stop(errors.New("the client is gone"))
	err := c.PipeReader.Close()
	<-c.done
	return err
}

// stream runs write into a pipe; closing the reader ends it and closes the view.
func stream(ctx context.Context, v View, write func(context.Context, io.Writer) error) io.ReadCloser {
	ctx, stop := context.WithCancelCause(ctx)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer stop(nil)
		err := write(ctx, w)
		_ = w.CloseWithError(errors.Join(err, v.Close()))
	}()
	return &closing{r, stop, done}
}

// Archive gives the file or folder at p as a tar stream; the caller closes it.
func (c *copier) Archive(ctx context.Context, ref, p string) (io.ReadCloser, PathStat, error) {
	rec, v, err := c.view(ctx, ref)
	if err != nil {
		return nil, PathStat{}, err
	}
	st, err := v.Stat(p)
	if err != nil {
		_ = v.Close()
		return nil, PathStat{}, fileError(err, p, ref)
	}
	c.publish(rec, events.ActionArchivePath, nil)
	base := archiveBase(p)
	return stream(ctx, v, func(ctx context.Context, w io.Writer) error { return v.TarOut(ctx, p, base, w) }), st, nil
}

// archiveBase is what the names in an archive of p begin with: "/a/b" gives "b", and "/a/b/."
// gives ".", by which clients know that the folder's content is meant.
func archiveBase(p string) string {
	if p == "." || strings.HasSuffix(p, "/.") {
		return "."
	}
	return path.Base(path.Clean("/" + p))
}

// Extract unpacks a tar stream into the folder at p. What is read-only in the
// container is so here, by the mount that p leads to. CopyUIDGID gives the files to the
// container's user, if it has one.
func (c *copier) Extract(ctx context.Context, ref, p string, r io.Reader, o TarInOptions) (err error) {
	rec, v, err := c.view(ctx, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if _, err := v.Stat(p); err != nil {
		return fileError(err, p, ref)
	}
	if o.CopyUIDGID {
		if o.CopyUIDGID = rec.Config.User != ""; o.CopyUIDGID {
			if o.UID, o.GID, err = userOf(ctx, v, rec.Config.User); err != nil {
				return err
			}
		}
	}
	if err := v.TarIn(ctx, p, r, o); err != nil {
		return err
	}
	c.publish(rec, events.ActionExtractToDir, nil)
	return nil
}

// Export gives the whole root file system, without what is mounted, as a tar stream; the caller closes it.
func (c *copier) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	rec, v, err := c.view(ctx, ref)
	if err != nil {
		return nil, err
	}
	c.publish(rec, events.ActionExport, nil)
	return stream(ctx, v, func(ctx context.Context, w io.Writer) error { return v.TarOut(ctx, "/", "", w) }), nil
}
