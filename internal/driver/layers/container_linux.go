package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/overlayfs"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

var _ containers.Layers = (*Store)(nil)

type container struct {
	dir      string
	chain    string
	volatile bool
	asked    atomic.Int32 // how often its root was asked for: once by each start and each view
}

// writables are the layers of containers: each an upper directory of its own on an image's stack, or a copy of it.
type writables struct {
	*folders
	stacks *stacks
	spare  *spares

	mu         sync.Mutex
	containers map[string]*container
}

// mountOptions keep the upper directory free of what only this stack of lower ones gives a meaning.
var mountOptions = []string{"redirect_dir=off", "metacopy=off", "index=off"}

func (ws *writables) loadFrom(sub string, volatile bool) error {
	entries, err := os.ReadDir(filepath.Join(ws.dir, sub))
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(ws.dir, sub, e.Name())
		name, err := os.Readlink(filepath.Join(dir, "chain"))
		if err != nil || !ws.stacks.pin(name) {
			// Not finished, or its image's layers are lost: Rootfs will say so. Nothing the user wrote is deleted here.
			if errors.Is(err, os.ErrNotExist) {
				if err := ws.trash.discard(dir); err != nil {
					return err
				}
			}
			continue
		}
		ws.containers[e.Name()] = &container{dir: dir, chain: name, volatile: volatile}
	}
	return nil
}

// Create implements containers.Layers. It makes directories and a link and syncs nothing.
func (ws *writables) Create(ctx context.Context, id string, img spec.Image, o containers.LayerOptions) (root spec.Rootfs, err error) {
	if id == "" || id != filepath.Base(id) || id[0] == '.' {
		return root, fmt.Errorf("container ID %q: %w", id, errdefs.ErrInvalidArgument)
	}
	if o.SizeLimit != 0 {
		return root, fmt.Errorf("a size limit for the writable layer (--storage-opt size) is not implemented yet: %w", errdefs.ErrNotImplemented)
	}
	c := &container{dir: filepath.Join(ws.dir, "containers", id), chain: chainName(img.DiffIDs), volatile: o.Volatile}
	if o.Volatile {
		c.dir = filepath.Join(ws.dir, "volatile", ws.boot, id)
	}
	ws.mu.Lock()
	switch {
	case ws.containers[id] != nil:
		err = fmt.Errorf("container %s has a writable layer already: %w", id, errdefs.ErrAlreadyExists)
	case !ws.stacks.pin(c.chain):
		err = fmt.Errorf("the layers of image %s are not unpacked: %w", img.ID, errdefs.ErrNotFound)
	default:
		ws.containers[id] = c
	}
	ws.mu.Unlock()
	if err != nil {
		return root, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ws.Remove(context.WithoutCancel(ctx), id))
		}
	}()
	if err := ws.makeContainer(ctx, c); err != nil {
		return root, fmt.Errorf("making the writable layer of container %s: %w", id, err)
	}
	return ws.rootfs(c), nil
}

func (ws *writables) makeContainer(ctx context.Context, c *container) error {
	if ws.driver == DriverOverlay {
		if ws.spare.take(c.chain, c.dir) {
			failpoint.Hit("gantryd.layer-taken")
			return nil
		}
		return ws.makeOverlay(c)
	}
	if err := os.Mkdir(c.dir, 0o710); err != nil {
		return err
	}
	root := filepath.Join(c.dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := copyTree(ctx, ws.stacks.lower(c.chain)[0], root); err != nil {
		return err
	}
	return os.Symlink(c.chain, filepath.Join(c.dir, "chain"))
}

// makeOverlay makes what overlayfs needs for a container. The link is last: a directory without it is swept at the next Open.
func (ws *writables) makeOverlay(c *container) error {
	if err := os.Mkdir(c.dir, 0o710); err != nil {
		return err
	}
	failpoint.Hit("gantryd.layer-dir")
	upper := filepath.Join(c.dir, "upper")
	if err := os.Mkdir(upper, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(c.dir, "work"), 0o700); err != nil {
		return err
	}
	lower := ws.stacks.lower(c.chain)
	if len(lower) == 0 {
		return fmt.Errorf("the layers below it are gone: %w", errdefs.ErrNotFound)
	}
	if err := likeRoot(upper, lower[0]); err != nil {
		return err
	}
	failpoint.Hit("gantryd.layer-made")
	return os.Symlink(c.chain, filepath.Join(c.dir, "chain"))
}

// likeRoot gives a new upper directory the mode and owner of the one it hides.
func likeRoot(upper, lower string) error {
	var st unix.Stat_t
	if err := unix.Stat(lower, &st); err != nil {
		return &os.PathError{Op: "stat", Path: lower, Err: err}
	}
	if err := unix.Lchown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Chmod(upper, st.Mode&0o7777)
}

func (ws *writables) rootfs(c *container) spec.Rootfs {
	if ws.driver == DriverCopy {
		return spec.Rootfs{Path: filepath.Join(c.dir, "root")}
	}
	r := spec.Rootfs{
		Lower: ws.stacks.lower(c.chain), Upper: filepath.Join(c.dir, "upper"), Work: filepath.Join(c.dir, "work"),
		Options: slices.Clone(mountOptions),
	}
	if c.volatile {
		// No sync at the last unmount. The kernel refuses to mount such a directory again unless its mark is
		// removed, which Rootfs does.
		r.Options = append(r.Options, "volatile")
	}
	return r
}

func (ws *writables) container(id string) (*container, error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if c := ws.containers[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %s has no writable layer: %w", id, errdefs.ErrNotFound)
}

// Rootfs implements containers.Layers. It is to be asked before each start, not
// while the container runs: a volatile layer is made mountable again.
func (ws *writables) Rootfs(_ context.Context, id string) (spec.Rootfs, error) {
	c, err := ws.container(id)
	if err != nil {
		return spec.Rootfs{}, err
	}
	c.asked.Add(1)
	if c.volatile && ws.driver == DriverOverlay {
		err := os.RemoveAll(filepath.Join(c.dir, "work", "work", "incompat"))
		if err != nil {
			return spec.Rootfs{}, err
		}
	}
	return ws.rootfs(c), nil
}

// Remove implements containers.Layers: a rename now, the deletion in the background.
func (ws *writables) Remove(_ context.Context, id string) error {
	ws.mu.Lock()
	c := ws.containers[id]
	ws.mu.Unlock()
	if c == nil {
		return nil
	}
	chain := ""
	if ws.driver == DriverOverlay && c.asked.Load() <= 1 { // nobody but its one run has seen it
		chain = c.chain
	}
	if err := ws.trash.away(c.dir, chain); err != nil {
		return fmt.Errorf("removing the writable layer of container %s: %w", id, err)
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.containers[id] == c { // not removed by another call meanwhile
		delete(ws.containers, id)
		ws.stacks.unpin(c.chain)
	}
	return nil
}

// SweepVolatile removes the layers of auto-remove containers that keep does not
// claim: what is left after a crash of the daemon.
func (ws *writables) SweepVolatile(ctx context.Context, keep func(container string) bool) error {
	ws.mu.Lock()
	var gone []string
	for id, c := range ws.containers {
		if c.volatile && !keep(id) {
			gone = append(gone, id)
		}
	}
	ws.mu.Unlock()
	var errs []error
	for _, id := range gone {
		errs = append(errs, ws.Remove(ctx, id))
	}
	return errors.Join(errs...)
}

// Usage implements containers.Layers.
func (ws *writables) Usage(ctx context.Context, id string) (writable, image int64, err error) {
	c, err := ws.container(id)
	if err != nil {
		return 0, 0, err
	}
	if ch := ws.stacks.chain(c.chain); ch != nil {
		for _, d := range ch.Dirs {
			if l := ws.stacks.layer(d); l != nil {
				image += l.Size
			}
		}
	}
	if ws.driver == DriverCopy {
		writable, err = ws.copyUsage(ctx, c)
		return writable, image, err
	}
	writable, err = treeSize(ctx, filepath.Join(c.dir, "upper"))
	return writable, image, err
}

// lowerView opens the image's merged tree, read-only.
func (ws *writables) lowerView(c *container) (*os.File, error) {
	lower := ws.stacks.lower(c.chain)
	if len(lower) == 0 {
		return nil, fmt.Errorf("the layers below container %s are lost: %w", filepath.Base(c.dir), errdefs.ErrNotFound)
	}
	if ws.driver == DriverCopy {
		return tarfs.OpenRoot(lower[0])
	}
	return overlayfs.Detached(overlayfs.Layers{Lower: lower})
}

// load takes over what former daemons have made; the volatile ones of this boot among it.
func (ws *writables) load() error {
	return errors.Join(ws.loadFrom("containers", false), ws.loadFrom(filepath.Join("volatile", ws.boot), true))
}
