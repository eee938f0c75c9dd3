package rootview

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// Views implements containers.Views. Its zero value is ready to use.
type Views struct{}

// New makes Views.
func New() *Views { return &Views{} }

var _ containers.Views = (*Views)(nil)

// view is one open tree.
type view struct {
	root  *os.File
	close func()
}

// Open implements containers.Views. mounts matter for a stopped container only. One for "/"
// with the option "ro" and no source makes the root read-only; a bind with the option
// "subpath=…" shows that place inside its source.
func (*Views) Open(_ context.Context, rootfs spec.Rootfs, mounts []specs.Mount, pid int) (containers.View, error) {
	if pid != 0 {
		root, err := running(pid)
		if err != nil {
			return nil, err
		}
		return &view{root: root, close: func() {}}, nil
	}
	root, done, err := stopped(rootfs, mounts)
	if err != nil {
		return nil, fmt.Errorf("opening the container's file system: %w", err)
	}
	return &view{root: root, close: sync.OnceFunc(done)}, nil
}

// running opens a process's root. A pidfd taken before, alive after, proves that it was that process's.
func running(pid int) (*os.File, error) {
	ended := fmt.Errorf("the container's process %d has ended: %w", pid, errdefs.ErrNotFound)
	pidfd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, ended
	}
	if err != nil {
		return nil, fmt.Errorf("opening process %d: %w", pid, err)
	}
	defer unix.Close(pidfd)
	p := "/proc/" + strconv.Itoa(pid) + "/root"
	fd, err := unix.Open(p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil, ended
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: p, Err: err}
	}
	f := os.NewFile(uintptr(fd), p)
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
		_ = f.Close()
		return nil, ended
	}
	return f, nil
}

// Close implements containers.View.
func (v *view) Close() error {
	err := v.root.Close()
	v.close()
	return err
}

// locate opens the directory that holds p's last component, following links up
// to it. An empty name means the directory itself: p is the root, or ends in "/" or "/.".
func (v *view) locate(p string) (dir int, name string, err error) {
	whole := strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") || p == "."
	clean := path.Clean("/" + p)
	d, base := path.Split(clean)
	if whole || base == "" {
		d, base = clean, ""
	}
	dir, err = tarfs.OpenDirIn(int(v.root.Fd()), d)
	return dir, base, classify(err, p)
}

// classify gives the kernel's answers their class.
func classify(err error, p string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s: no such file or directory: %w", p, errdefs.ErrNotFound)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s: not a directory: %w", p, errdefs.ErrInvalidArgument)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %w", err, errdefs.ErrPermissionDenied)
	}
	return err
}

// Stat implements containers.View. It follows links in the path but not the last one.
func (v *view) Stat(p string) (containers.PathStat, error) {
	dir, name, err := v.locate(p)
	if err != nil {
		return containers.PathStat{}, err
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH); err != nil {
		return containers.PathStat{}, classify(err, p)
	}
	out := containers.PathStat{
		Name: filepath.Base(path.Clean("/" + p)), Size: st.Size, Mode: uint32(fileMode(st.Mode)),
		ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec),
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		out.LinkTarget = v.linkTarget(dir, name, path.Dir(path.Clean("/"+p)))
	}
	return out, nil
}

// linkTarget is where a link leads inside the container. A dangling link's own text is resolved as far as it says.
func (v *view) linkTarget(dir int, name, parent string) string {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, b)
	if err != nil {
		return ""
	}
	target := string(b[:n])
	if !path.IsAbs(target) {
		target = path.Join(parent, target)
	}
	fd, err := tarfs.OpenIn(int(v.root.Fd()), target, unix.O_PATH)
	if err != nil {
		return path.Clean(target)
	}
	defer unix.Close(fd)
	if resolved, err := v.nameOf(fd); err == nil {
		return resolved
	}
	return path.Clean(target)
}

// nameOf is an open object's path inside the tree, as the kernel tells it.
func (v *view) nameOf(fd int) (string, error) {
	root, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(v.root.Fd())))
	if err != nil {
		return "", err
	}
	full, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	if root == "/" {
		return full, nil
	}
	rest, ok := strings.CutPrefix(full, root)
	if !ok || rest != "" && rest[0] != '/' {
		return "", errors.New("the name lies outside")
	}
	return path.Clean("/" + rest), nil
}

func fileMode(m uint32) os.FileMode {
	mode := os.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= os.ModeDir
	case unix.S_IFLNK:
		mode |= os.ModeSymlink
	case unix.S_IFIFO:
		mode |= os.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= os.ModeSocket
	case unix.S_IFBLK:
		mode |= os.ModeDevice
	case unix.S_IFCHR:
		mode |= os.ModeDevice | os.ModeCharDevice
	}
	for bit, flag := range map[uint32]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if m&bit != 0 {
			mode |= flag
		}
	}
	return mode
}
