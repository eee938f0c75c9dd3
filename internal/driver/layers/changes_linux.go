package layers

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// The kinds of changes, as docker diff numbers them.
const (
	modified containers.ChangeKind = iota
	added
	deleted
)

// Changes implements containers.Layers: sorted by path.
func (ws *writables) Changes(ctx context.Context, id string) ([]containers.Change, error) {
	c, err := ws.container(id)
	if err != nil {
		return nil, err
	}
	c.asked.Add(2)
	low, err := ws.lowerView(c)
	if err != nil {
		return nil, err
	}
	defer low.Close()
	d := &differ{ctx: ctx, changed: map[string]containers.ChangeKind{}}
	name := "upper"
	if ws.driver == DriverCopy {
		name = "root"
	}
	top, err := tarfs.OpenRoot(filepath.Join(c.dir, name))
	if err != nil {
		return nil, err
	}
	defer top.Close()
	if ws.driver == DriverCopy {
		err = d.trees(int(low.Fd()), int(top.Fd()), "")
	} else {
		err = d.upper(int(low.Fd()), int(top.Fd()), "", false)
	}
	if err != nil {
		return nil, err
	}
	out := make([]containers.Change, 0, len(d.changed))
	for p, k := range d.changed {
		out = append(out, containers.Change{Path: p, Kind: k})
	}
	slices.SortFunc(out, func(a, b containers.Change) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// differ collects changes. Directories are walked by descriptors, never by path, and no link is followed.
type differ struct {
	ctx     context.Context
	changed map[string]containers.ChangeKind
}

// note records a change; something new or gone modifies the folder it is in.
func (d *differ) note(p string, k containers.ChangeKind) {
	d.changed[p] = k
	if k == modified {
		return
	}
	if parent := path.Dir(p); parent != "/" {
		if _, ok := d.changed[parent]; !ok {
			d.changed[parent] = modified
		}
	}
}

func openDir(fd int, name string) int {
	if fd < 0 {
		return -1
	}
	n, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return n
}

func closeDir(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

func lstat(fd int, name string) (st unix.Stat_t, ok bool, err error) {
	if fd < 0 {
		return st, false, nil
	}
	err = unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return st, false, nil
	}
	return st, err == nil, err
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// upper compares an overlay's upper directory with what is below; low is -1 where nothing is.
func (d *differ) upper(low, top int, prefix string, opaque bool) error {
	if err := context.Cause(d.ctx); err != nil {
		return err
	}
	names, err := tarfs.ReadNames(top)
	if err != nil {
		return err
	}
	if opaque && low >= 0 {
		below, err := tarfs.ReadNames(low)
		if err != nil {
			return err
		}
		for _, n := range below {
			if !slices.Contains(names, n) {
				d.note(prefix+"/"+n, deleted)
			}
		}
	}
	for _, n := range names {
		if err := d.one(low, top, prefix+"/"+n, n); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) one(low, top int, p, n string) error {
	st, ok, err := lstat(top, n)
	if err != nil || !ok {
		return err
	}
	was, had, err := lstat(low, n)
	if err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
		if had {
			d.note(p, deleted)
		}
		return nil
	case !had:
		d.note(p, added)
	case isDir(&st) && isDir(&was):
		if st.Mode != was.Mode || st.Mtim != was.Mtim || st.Uid != was.Uid || st.Gid != was.Gid {
			d.note(p, modified)
		}
	default:
		d.note(p, modified)
	}
	if !isDir(&st) {
		return nil
	}
	sub := openDir(top, n)
	if sub < 0 {
		return nil
	}
	defer closeDir(sub)
	below := -1
	if had && isDir(&was) {
		below = openDir(low, n)
		defer closeDir(below)
	}
	before := len(d.changed)
	if err := d.upper(below, sub, p, tarfs.IsOpaque(sub, "trusted.overlay.")); err != nil {
		return err
	}
	if _, ok := d.changed[p]; !ok && len(d.changed) > before {
		d.changed[p] = modified // a folder with a change below it is listed
	}
	return nil
}

// trees compares two whole trees, for the copying driver.
func (d *differ) trees(low, top int, prefix string) error {
	if err := context.Cause(d.ctx); err != nil {
		return err
	}
	names, err := tarfs.ReadNames(top)
	if err != nil {
		return err
	}
	below, err := tarfs.ReadNames(low)
	if err != nil {
		return err
	}
	for _, n := range below {
		if _, found := slices.BinarySearch(names, n); !found {
			d.note(prefix+"/"+n, deleted)
		}
	}
	for _, n := range names {
		if err := d.pair(low, top, prefix+"/"+n, n); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) pair(low, top int, p, n string) error {
	st, ok, err := lstat(top, n)
	if err != nil || !ok {
		return err
	}
	was, had, err := lstat(low, n)
	if err != nil {
		return err
	}
	if !had || isDir(&st) && !isDir(&was) {
		kind := added
		if had {
			kind = modified
		}
		d.note(p, kind)
		if !isDir(&st) {
			return nil
		}
		sub := openDir(top, n)
		if sub < 0 {
			return nil
		}
		defer closeDir(sub)
		return d.upper(-1, sub, p, false)
	}
	if st.Mode != was.Mode || st.Mtim != was.Mtim || st.Uid != was.Uid || st.Gid != was.Gid || st.Rdev != was.Rdev || !isDir(&st) && st.Size != was.Size {
		d.note(p, modified)
	}
	if !isDir(&st) {
		return nil
	}
	a, b := openDir(low, n), openDir(top, n)
	defer closeDir(a)
	defer closeDir(b)
	if a < 0 || b < 0 {
		return nil
	}
	return d.trees(a, b, p)
}

// treeSize sums the sizes of the regular files in a tree, each inode once.
func treeSize(ctx context.Context, root string) (int64, error) {
	var size int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // a running container deletes files
		}
		if err != nil {
			return err
		}
		if !e.Type().IsRegular() {
			return context.Cause(ctx)
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		size += info.Size()
		return nil
	})
	return size, err
}
