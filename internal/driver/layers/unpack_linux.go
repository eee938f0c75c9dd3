package layers

import (
	"bufio"
	"context"
	_ "crypto/sha256" // go-digest looks the algorithm up
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/sys/diskusage"
	"github.com/gantry-engine/gantry/internal/sys/overlayfs"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// emptyChain names the stack of an image without layers.
const emptyChain = "empty"

// chainNames are the names of the chain IDs of the first 1, 2, … n layers.
func chainNames(diffIDs []digest.Digest) []string {
	names := make([]string, len(diffIDs))
	var id digest.Digest
	for i, d := range diffIDs {
		if i == 0 {
			id = d
		} else {
			id = digest.FromString(id.String() + " " + d.String())
		}
		names[i] = id.Encoded()
	}
	return names
}

func chainName(diffIDs []digest.Digest) string {
	if len(diffIDs) == 0 {
		return emptyChain
	}
	names := chainNames(diffIDs)
	return names[len(names)-1]
}

// unpacking is one call of Unpack.
type unpacking struct {
	s      *stacks
	layers []images.Layer
	names  []string // of chain IDs
	dirs   []string // chosen directory per layer; "" is not known yet

	mu   sync.Mutex
	made []made // unpacked below tmp/, not yet named
}

type made struct {
	tmp, name string
	layer     *layer
}

// Unpack implements images.Layers.
func (s *stacks) Unpack(ctx context.Context, ls []images.Layer) (release func(), err error) {
	diffIDs := make([]digest.Digest, len(ls))
	for i, l := range ls {
		if err := l.DiffID.Validate(); err != nil {
			return nil, fmt.Errorf("diff ID %q: %w: %w", l.DiffID, err, errdefs.ErrInvalidArgument)
		}
		diffIDs[i] = l.DiffID
	}
	if s.driver != DriverOverlay && slices.ContainsFunc(ls, func(l images.Layer) bool { return l.Served.Dir != "" }) {
		return nil, fmt.Errorf("the driver %q cannot use layers that are not here yet: %w", s.driver, errdefs.ErrNotImplemented)
	}
	if len(ls) == 0 {
		return func() {}, nil
	}
	u := &unpacking{s: s, layers: ls, names: chainNames(diffIDs), dirs: make([]string, len(ls))}
	held := slices.Clone(u.names)
	for i, d := range diffIDs {
		held = append(held, d.Encoded())
		if ls[i].Served.Dir != "" {
			held = append(held, lazyName(d))
		}
	}
	s.hold(held, 1)
	drop := sync.OnceFunc(func() { s.hold(held, -1) })
	defer func() {
		if err != nil {
			drop()
		}
	}()
	// Two images that share layers are unpacked one after the other from the first
	// shared one on; locks are taken in one order.
	keys := slices.Compact(slices.Sorted(slices.Values(held)))
	for _, k := range keys {
		unlock, err := s.locks.Lock(ctx, k)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	if c := s.chain(chainName(diffIDs)); c != nil && c.serves(ls) {
		return drop, nil
	}
	defer u.discard()
	if s.driver == DriverCopy {
		err = u.copies(ctx)
	} else {
		err = u.overlays(ctx)
	}
	if err != nil {
		return nil, err
	}
	return drop, u.finish(diffIDs)
}

// overlays unpacks all layers side by side, then those that need the ones below on top of them.
func (u *unpacking) overlays(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.NumCPU()))
	started := map[string]bool{}
	for i, l := range u.layers {
		diff := l.DiffID.Encoded()
		switch known := u.s.layer(diff); {
		case i > 0 && u.s.layer(u.names[i]) != nil:
			u.dirs[i] = u.names[i]
		case known != nil:
			if i == 0 || !known.Implied {
				u.dirs[i] = diff
			}
		case l.Served.Dir != "":
			if err := u.serve(i); err != nil {
				return errors.Join(err, g.Wait())
			}
		case !started[diff]:
			started[diff] = true
			g.Go(func() error { return u.alone(gctx, i) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, l := range u.layers {
		if u.dirs[i] != "" {
			continue
		}
		diff := l.DiffID.Encoded()
		if m := u.find(diff); m != nil && (i == 0 || !m.layer.Implied) {
			u.dirs[i] = diff // the same layer twice in one image
			continue
		}
		if err := u.onTop(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacking) find(name string) *made {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.made {
		if u.made[i].name == name {
			return &u.made[i]
		}
	}
	return nil
}

// alone unpacks layer i without the others. It leaves dirs[i] empty where that is not possible.
func (u *unpacking) alone(ctx context.Context, i int) error {
	var x extracted
	done := false
	if g, ok := u.layers[i].Staged.(*staged); ok && g.s == u.s {
		x, done = g.take()
	}
	if !done {
		var err error
		x, err = u.layer(ctx, u.layers[i], func(tmp string) (*os.File, error) {
			return tarfs.OpenRoot(filepath.Join(tmp, "fs"))
		}, tarfs.Overlay)
		if err != nil {
			return err
		}
	}
	if i == 0 && x.Missing != nil {
		return errors.Join(fmt.Errorf("layer %s: %w", u.layers[i].DiffID, x.Missing), u.s.trash.discard(x.tmp))
	}
	if i > 0 && (x.Missing != nil || x.Implied) {
		return u.s.trash.discard(x.tmp)
	}
	l := x.layer()
	l.Implied = x.Implied
	u.add(i, x.tmp, u.layers[i].DiffID.Encoded(), l)
	return nil
}

func (u *unpacking) add(i int, tmp, name string, l *layer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.made = append(u.made, made{tmp, name, l})
	u.dirs[i] = name
}

// path is where layer directory name is now: still below tmp/, or named.
func (u *unpacking) path(name string) string {
	if m := u.find(name); m != nil {
		return filepath.Join(m.tmp, "fs")
	}
	return u.s.layerFS(name)
}

// onTop unpacks layer i through an overlay mount of those below, which gives
// implied folders their mode and owner, follows links, and copies up what is linked to.
func (u *unpacking) onTop(ctx context.Context, i int) error {
	var lower []string
	for j := i - 1; j >= 0; j-- {
		lower = append(lower, u.path(u.dirs[j]))
	}
	x, err := u.layer(ctx, u.layers[i], func(tmp string) (*os.File, error) {
		work := filepath.Join(tmp, "work")
		if err := os.Mkdir(work, 0o700); err != nil {
			return nil, err
		}
		upper := filepath.Join(tmp, "fs")
		if err := likeRoot(upper, lower[0]); err != nil {
			return nil, err
		}
		return overlayfs.Detached(overlayfs.Layers{Lower: lower, Upper: upper, Work: work, Options: mountOptions})
	}, tarfs.Apply)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(x.tmp, "work")); err != nil {
		return err
	}
	u.add(i, x.tmp, u.names[i], x.onOthers(u.layers[i].DiffID))
	return nil
}

// copies unpacks each layer onto a copy of the tree below it.
func (u *unpacking) copies(ctx context.Context) error {
	for i, l := range u.layers {
		if u.s.layer(u.names[i]) != nil {
			u.dirs[i] = u.names[i]
			continue
		}
		x, err := u.layer(ctx, l, func(tmp string) (*os.File, error) {
			fs := filepath.Join(tmp, "fs")
			if i > 0 {
				if err := copyTree(ctx, u.path(u.dirs[i-1]), fs); err != nil {
					return nil, err
				}
			}
			return tarfs.OpenRoot(fs)
		}, tarfs.Apply)
		if err != nil {
			return err
		}
		u.add(i, x.tmp, u.names[i], x.onOthers(l.DiffID))
	}
	return nil
}

// extracted is a layer that was unpacked below tmp/.
type extracted struct {
	tarfs.Stats
	tmp      string
	recorded bool
}

func (x extracted) layer() *layer {
	return &layer{Size: x.Size, Entries: x.Entries, Recorded: x.recorded}
}

// onOthers is the layer as it is on top of others.
func (x extracted) onOthers(diff digest.Digest) *layer {
	l := x.layer()
	l.Chain, l.Diff = true, diff
	return l
}

// layer unpacks a layer below tmp/, and verifies its diff ID.
func (u *unpacking) layer(ctx context.Context, l images.Layer, open func(tmp string) (*os.File, error), w tarfs.Whiteouts) (extracted, error) {
	x, got, err := u.s.extract(ctx, l.Open, open, w)
	if err != nil {
		return x, fmt.Errorf("layer %s: %w", l.DiffID, err)
	}
	if got != l.DiffID {
		err := fmt.Errorf("layer %s: its content has another digest than the image's configuration says: %w", l.DiffID, errdefs.ErrInvalidArgument)
		return x, errors.Join(err, u.s.trash.discard(x.tmp))
	}
	return x, nil
}

// extract unpacks a layer's archive into a new directory below tmp/, whose "fs" open
// opens or mounts, and gives its digest.
func (s *stacks) extract(ctx context.Context, archive func(ctx context.Context) (io.ReadCloser, error), open func(tmp string) (*os.File, error), w tarfs.Whiteouts) (x extracted, id digest.Digest, err error) {
	x.tmp, err = s.temp()
	if err != nil {
		return x, "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.trash.discard(x.tmp))
		}
	}()
	if err := os.Mkdir(filepath.Join(x.tmp, "fs"), 0o755); err != nil {
		return x, "", err
	}
	root, err := open(x.tmp)
	if err != nil {
		return x, "", err
	}
	defer root.Close()
	r, err := archive(ctx)
	if err != nil {
		return x, "", fmt.Errorf("reading it: %w", err)
	}
	defer r.Close()
	rec, err := newRecorder(x.tmp)
	if err != nil {
		return x, "", err
	}
	largest, err := s.largest()
	if err != nil {
		_, cerr := rec.close()
		return x, "", errors.Join(err, cerr)
	}
	sum := digest.SHA256.Hash()
	stream := io.TeeReader(&atMost{r: bufio.NewReaderSize(r, 256<<10), left: largest, of: largest}, io.MultiWriter(sum, rec))
	x.Stats, err = tarfs.Extract(ctx, root, stream, tarfs.ExtractOptions{Whiteouts: w})
	recorded, recErr := rec.close()
	x.recorded = recorded
	s.wrote(x.Size)
	return x, digest.NewDigest(digest.SHA256, sum), errors.Join(err, recErr)
}

// largest is how many bytes a layer's archive may have: as many as the disk. What is larger consists of zeros, and
// would keep a reader busy for ever.
func (s *stacks) largest() (int64, error) {
	if s.maxLayer > 0 {
		return s.maxLayer, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: s.dir, Err: err}
	}
	return int64(st.Blocks) * st.Bsize, nil //nolint:gosec // a file system is smaller than 8 EiB
}

// atMost is a stream of bounded length.
type atMost struct {
	r        io.Reader
	left, of int64
}

func (a *atMost) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if a.left -= int64(n); a.left < 0 {
		return 0, fmt.Errorf("it unpacks to more than %d bytes, which is the size of the disk: %w", a.of, errdefs.ErrInvalidArgument)
	}
	return n, err
}

// finish makes all that was unpacked durable, then gives it its names.
func (u *unpacking) finish(diffIDs []digest.Digest) error {
	s := u.s
	for _, m := range u.made {
		if err := m.describe(); err != nil {
			return err
		}
		if err := os.Chmod(m.tmp, 0o710); err != nil {
			return err
		}
	}
	if len(u.made) > 0 {
		if err := s.syncAll(); err != nil {
			return err
		}
	}
	failpoint.Hit("gantryd.unpack-synced")
	for len(u.made) > 0 {
		m := u.made[0]
		if err := os.Rename(m.tmp, filepath.Join(s.dir, "layers", m.name)); err != nil {
			return fmt.Errorf("naming layer %s: %w", m.name, err)
		}
		s.mu.Lock()
		s.layers[m.name] = m.layer
		s.mu.Unlock()
		u.made = u.made[1:]
	}
	failpoint.Hit("gantryd.unpack-named")
	c := &chain{DiffIDs: diffIDs, Dirs: u.dirs}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Join(s.dir, "layers")); err != nil {
		return err
	}
	name := chainName(diffIDs)
	if err := atomicfile.Write(filepath.Join(s.dir, "chains", name), b, 0o600); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chains[name] = c
	return nil
}

// describe writes a layer's own file, with what all of it takes on disk.
func (m *made) describe() error {
	for range 2 { // the file is part of what it tells
		b, err := json.Marshal(m.layer)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(m.tmp, "meta"), b, 0o600); err != nil {
			return err
		}
		if m.layer.Disk > 0 {
			break
		}
		if m.layer.Disk, err = diskusage.Of(context.Background(), m.tmp); err != nil {
			return err
		}
	}
	return nil
}

// discard removes what was unpacked but not named.
func (u *unpacking) discard() {
	for _, m := range u.made {
		_ = u.s.trash.discard(m.tmp)
	}
}

func syncDir(p string) error {
	d, err := os.Open(p)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
