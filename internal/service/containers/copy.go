package containers

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// copier reads and writes containers' file trees, running or not.
type copier struct{ *core }

// view opens the container's file tree.
func (c *copier) view(ctx context.Context, ref string) (*Container, View, error) {
	e, err := c.reg.get(ref)
	if err != nil {
		return nil, nil, err
	}
	rec := e.snapshot()
	if rec.State.Status == Removing || rec.State.Status == Dead {
		return nil, nil, conflict("container %s is marked for removal and has no file system any more", rec.ID)
	}
	rootfs, err := c.Layers.Rootfs(ctx, rec.ID)
	if err != nil {
		return nil, nil, err
	}
	pid := 0
	if rec.State.Status.Alive() {
		pid = rec.State.Pid
	}
	v, err := c.Views.Open(ctx, rootfs, viewMounts(rec), pid)
	if err != nil && pid != 0 && errdefs.IsNotFound(err) { // it ended meanwhile
		v, err = c.Views.Open(ctx, rootfs, viewMounts(rec), 0)
	}
	return rec, v, err
}

// viewMounts are the mounts that a stopped container's tree shows.
func viewMounts(rec *Container) []specs.Mount {
	var out []specs.Mount
	for _, m := range rec.Mounts {
		if m.Source == "" || m.Type == "tmpfs" {
			continue
		}
		src := m.Source
		if m.Subpath != "" {
			src = path.Join(src, m.Subpath)
		}
		opts := []string{"rbind"}
		if !m.RW {
			opts = append(opts, "ro")
		}
		out = append(out, specs.Mount{Destination: m.Destination, Type: "bind", Source: src, Options: opts})
	}
	slices.SortStableFunc(out, func(a, b specs.Mount) int { return strings.Compare(a.Destination, b.Destination) })
	return out
}

// fileError gives a path that is not there Docker's text.
func fileError(err error, p, ref string) error {
	if errdefs.IsNotFound(err) {
		return classed(errdefs.ErrNotFound, "Could not find the file %s in container %s", p, ref)
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
	base := path.Base(path.Clean("/" + p))
	return stream(ctx, v, func(ctx context.Context, w io.Writer) error { return v.TarOut(ctx, p, base, w) }), st, nil
}

// Extract unpacks a tar stream into the folder at p. CopyUIDGID gives the
// files to the container's user, if that is given by number.
func (c *copier) Extract(ctx context.Context, ref, p string, r io.Reader, o TarInOptions) error {
	rec, v, err := c.view(ctx, ref)
	if err != nil {
		return err
	}
	defer v.Close()
	if _, err := v.Stat(p); err != nil {
		return fileError(err, p, ref)
	}
	if rec.HostConfig.ReadonlyRootfs && !onMount(rec, p) {
		return classed(errdefs.ErrPermissionDenied, "container rootfs is marked read-only")
	}
	if o.CopyUIDGID {
		if o.UID, o.GID, err = numericUser(rec.Config.User); err != nil {
			return err
		}
	}
	if err := v.TarIn(ctx, p, r, o); err != nil {
		return err
	}
	c.publish(rec, events.ActionExtractToDir, nil)
	return nil
}

// onMount tells whether p lies on a writable mount, not on the root file system.
func onMount(rec *Container, p string) bool {
	p = path.Clean("/" + p)
	var best *MountPoint
	for i, m := range rec.Mounts {
		if (p == m.Destination || strings.HasPrefix(p, m.Destination+"/")) && (best == nil || len(m.Destination) > len(best.Destination)) {
			best = &rec.Mounts[i]
		}
	}
	return best != nil && best.RW
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

// Changes lists what differs from the image.
func (c *copier) Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	e, err := c.reg.get(ref)
	if err != nil {
		return nil, err
	}
	list, err := c.Layers.Changes(ctx, e.id)
	if err != nil {
		return nil, err
	}
	out := make([]container.FilesystemChange, 0, len(list))
	for _, ch := range list {
		out = append(out, container.FilesystemChange{Path: ch.Path, Kind: container.ChangeType(ch.Kind)})
	}
	return out, nil
}

// numericUser reads the user a container runs as, where it is given by number.
func numericUser(user string) (uid, gid int, err error) {
	if user == "" || user == "root" {
		return 0, 0, nil
	}
	u, g, withGroup := strings.Cut(user, ":")
	uid, err = strconv.Atoi(u)
	gid = uid
	if err == nil && withGroup {
		gid, err = strconv.Atoi(g)
	}
	if err != nil {
		return 0, 0, unsupported("copyUIDGID for a user given by name (" + user + ")")
	}
	return uid, gid, nil
}
