package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/overlayfs"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

var _ containers.Layers = (*Store)(nil)

// mountOptions keep the upper directory free of what only this stack of lower ones gives a meaning.
var mountOptions = []string{"redirect_dir=off", "metacopy=off", "index=off"}

// Create implements containers.Layers. It makes directories and a link and syncs nothing.
func (s *Store) Create(ctx context.Context, id string, img spec.Image, o containers.LayerOptions) (root spec.Rootfs, err error) {
	if id == "" || id != filepath.Base(id) || id[0] == '.' {
		return root, fmt.Errorf("container ID %q: %w", id, errdefs.ErrInvalidArgument)
	}
	if o.SizeLimit != 0 {
		return root, fmt.Errorf("a size limit for the writable layer (--storage-opt size) is not implemented yet: %w", errdefs.ErrNotImplemented)
	}
	c := &container{dir: filepath.Join(s.dir, "containers", id), chain: chainName(img.DiffIDs), volatile: o.Volatile}
	if o.Volatile {
		c.dir = filepath.Join(s.dir, "volatile", s.boot, id)
	}
	s.mu.Lock()
	switch {
	case s.containers[id] != nil:
		err = fmt.Errorf("container %s has a writable layer already: %w", id, errdefs.ErrAlreadyExists)
	case c.chain != emptyChain && s.chains[c.chain] == nil:
		err = fmt.Errorf("the layers of image %s are not unpacked: %w", img.ID, errdefs.ErrNotFound)
	default:
		s.containers[id] = c // pins the layers
	}
	s.mu.Unlock()
	if err != nil {
		return root, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Remove(context.WithoutCancel(ctx), id))
		}
	}()
	if err := s.makeContainer(ctx, c); err != nil {
		return root, fmt.Errorf("making the writable layer of container %s: %w", id, err)
	}
	return s.rootfs(c), nil
}

func (s *Store) makeContainer(ctx context.Context, c *container) error {
	if s.driver == DriverOverlay {
		if s.spare.take(c.chain, c.dir) {
			failpoint.Hit("gantryd.layer-taken")
			return nil
		}
		return s.makeOverlay(c)
	}
	if err := os.Mkdir(c.dir, 0o710); err != nil {
		return err
	}
	root := filepath.Join(c.dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := copyTree(ctx, s.lower(c)[0], root); err != nil {
		return err
	}
	return os.Symlink(c.chain, filepath.Join(c.dir, "chain"))
}

// makeOverlay makes what overlayfs needs for a container. The link is last: a directory without it is swept at the next Open.
func (s *Store) makeOverlay(c *container) error {
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
	lower := s.lower(c)
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

// lower lists the directories that a container stands on, uppermost first. The stubs are below all.
func (s *Store) lower(c *container) []string {
	if c.chain == emptyChain {
		dirs := []string{filepath.Join(s.dir, "empty")}
		if s.driver == DriverOverlay {
			dirs = append(dirs, s.stubDir())
		}
		return dirs
	}
	ch := s.chain(c.chain)
	if ch == nil {
		return nil
	}
	if s.driver == DriverCopy {
		return []string{s.layerFS(ch.Dirs[len(ch.Dirs)-1])}
	}
	var dirs []string
	for _, d := range slices.Backward(ch.Dirs) {
		dirs = append(dirs, s.layerFS(d))
	}
	return append(dirs, s.stubDir())
}

func (s *Store) rootfs(c *container) spec.Rootfs {
	if s.driver == DriverCopy {
		return spec.Rootfs{Path: filepath.Join(c.dir, "root")}
	}
	r := spec.Rootfs{
		Lower: s.lower(c), Upper: filepath.Join(c.dir, "upper"), Work: filepath.Join(c.dir, "work"),
		Options: slices.Clone(mountOptions),
	}
	if c.volatile {
		// No sync at the last unmount. The kernel refuses to mount such a directory again unless its mark is
		// removed, which Rootfs does.
		r.Options = append(r.Options, "volatile")
	}
	return r
}

func (s *Store) container(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.containers[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %s has no writable layer: %w", id, errdefs.ErrNotFound)
}

// Rootfs implements containers.Layers. It is to be asked before each start, not
// while the container runs: a volatile layer is made mountable again.
func (s *Store) Rootfs(_ context.Context, id string) (spec.Rootfs, error) {
	c, err := s.container(id)
	if err != nil {
		return spec.Rootfs{}, err
	}
	c.asked.Add(1)
	if c.volatile && s.driver == DriverOverlay {
		err := os.RemoveAll(filepath.Join(c.dir, "work", "work", "incompat"))
		if err != nil {
			return spec.Rootfs{}, err
		}
	}
	return s.rootfs(c), nil
}

// Remove implements containers.Layers: a rename now, the deletion in the background.
func (s *Store) Remove(_ context.Context, id string) error {
	s.mu.Lock()
	c := s.containers[id]
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	chain := ""
	if s.driver == DriverOverlay && c.asked.Load() <= 1 { // nobody but its one run has seen it
		chain = c.chain
	}
	if err := s.trash.away(c.dir, chain); err != nil {
		return fmt.Errorf("removing the writable layer of container %s: %w", id, err)
	}
	s.mu.Lock()
	delete(s.containers, id)
	s.mu.Unlock()
	return nil
}

// SweepVolatile removes the layers of auto-remove containers that keep does not
// claim: what is left after a crash of the daemon.
func (s *Store) SweepVolatile(ctx context.Context, keep func(container string) bool) error {
	s.mu.Lock()
	var gone []string
	for id, c := range s.containers {
		if c.volatile && !keep(id) {
			gone = append(gone, id)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, id := range gone {
		errs = append(errs, s.Remove(ctx, id))
	}
	return errors.Join(errs...)
}

// Usage implements containers.Layers.
func (s *Store) Usage(ctx context.Context, id string) (writable, image int64, err error) {
	c, err := s.container(id)
	if err != nil {
		return 0, 0, err
	}
	if ch := s.chain(c.chain); ch != nil {
		for _, d := range ch.Dirs {
			if l := s.layer(d); l != nil {
				image += l.Size
			}
		}
	}
	if s.driver == DriverCopy {
		writable, err = s.copyUsage(ctx, c)
		return writable, image, err
	}
	writable, err = treeSize(ctx, filepath.Join(c.dir, "upper"))
	return writable, image, err
}

// lowerView opens the image's merged tree, read-only.
func (s *Store) lowerView(c *container) (*os.File, error) {
	lower := s.lower(c)
	if len(lower) == 0 {
		return nil, fmt.Errorf("the layers below container %s are lost: %w", filepath.Base(c.dir), errdefs.ErrNotFound)
	}
	if s.driver == DriverCopy {
		return tarfs.OpenRoot(lower[0])
	}
	return overlayfs.Detached(overlayfs.Layers{Lower: lower})
}
