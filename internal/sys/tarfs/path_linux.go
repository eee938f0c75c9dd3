package tarfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxName bounds the length of a path inside an archive, in bytes (PATH_MAX).
const maxName = 4096

// resolveTries bounds how often a resolution is repeated that the kernel gave up
// because somebody renamed directories meanwhile (EAGAIN of openat2).
const resolveTries = 64

// OpenRoot opens the directory at p (a path of the host that the caller trusts) as a tree's root.
func OpenRoot(p string) (*os.File, error) {
	fd, err := unix.Open(p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: p, Err: err}
	}
	return os.NewFile(uintptr(fd), p), nil
}

// OpenIn opens p, resolved inside the tree below root: absolute paths and
// absolute links start at root, ".." stops there. The descriptor's number is the caller's to close.
func OpenIn(root int, p string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	p = path.Clean("/" + p)[1:]
	if p == "" {
		p = "."
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(root, p, &how)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && try < resolveTries:
		case err != nil:
			return -1, &os.PathError{Op: "open", Path: "/" + p, Err: err}
		default:
			return fd, nil
		}
	}
}

// OpenDirIn opens the directory p inside the tree, as a place for *at calls.
func OpenDirIn(root int, p string) (int, error) {
	return OpenIn(root, p, unix.O_PATH|unix.O_DIRECTORY)
}

// fdPath names an open descriptor as a path: for calls that take no O_PATH
// descriptor. The magic link leads to that very object, whatever was renamed meanwhile.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// reopen turns an O_PATH descriptor into one that reads or writes the same object.
func reopen(fd, flags int) (int, error) {
	for {
		n, err := unix.Open(fdPath(fd), flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// entryName makes an archive's name relative to the tree: "" is the root itself.
func entryName(name string) (string, error) {
	if len(name) > maxName {
		return "", fmt.Errorf("invalid archive: a name of %d bytes is longer than %d: %w", len(name), maxName, errdefs.ErrInvalidArgument)
	}
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("invalid archive: the name %q contains a null byte: %w", name, errdefs.ErrInvalidArgument)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			// A name may go down and up again, but not above where it started.
			if c := path.Clean(strings.TrimLeft(name, "/")); c == ".." || strings.HasPrefix(c, "../") {
				return "", fmt.Errorf("invalid archive: the name %q leads out of the target folder: %w", name, errdefs.ErrInvalidArgument)
			}
			break
		}
	}
	return path.Clean("/" + name)[1:], nil
}

// removeAll deletes name in the directory parent with everything below it,
// never following a link. What is not there is no error.
func removeAll(parent int, name string) error {
	err := unix.Unlinkat(parent, name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	if err := emptyDir(parent, name); err != nil {
		return err
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

func emptyDir(parent int, name string) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	d := os.NewFile(uintptr(fd), name)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := removeAll(fd, n); err != nil {
			return err
		}
	}
	return nil
}
