package tarfs

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// parents finds the folders that entries are made in, and makes those that are missing. Each is resolved
// inside the tree, from its root.
type parents struct {
	root  int
	owner *Owner // of the folders made; nil leaves them the creating process's
	stats *Stats

	// The directory of the last entry, since most entries follow their siblings.
	path string
	fd   int // -1 is none
}

// open opens the directory dir, making what is missing of it.
func (p *parents) open(dir string) (int, error) {
	if p.fd >= 0 && p.path == dir {
		return p.fd, nil
	}
	p.forget()
	fd, err := OpenDirIn(p.root, dir)
	if errors.Is(err, unix.ENOENT) {
		fd, err = p.imply(dir)
	}
	if err != nil {
		return -1, err
	}
	p.fd, p.path = fd, dir
	return fd, nil
}

// forget closes the directory of the last entry.
func (p *parents) forget() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
	}
	p.fd, p.path = -1, ""
}

// imply makes the folders that an archive implies without describing them.
func (p *parents) imply(dir string) (int, error) {
	at := ""
	for part := range strings.SplitSeq(dir, "/") {
		parent, err := OpenDirIn(p.root, at)
		if err != nil {
			return -1, err
		}
		err = unix.Mkdirat(parent, part, 0o755)
		if err == nil && p.owner != nil {
			err = unix.Fchownat(parent, part, p.owner.UID, p.owner.GID, unix.AT_SYMLINK_NOFOLLOW)
		}
		_ = unix.Close(parent)
		switch {
		case err == nil:
			p.stats.Implied = true
			p.stats.Entries++
		case !errors.Is(err, unix.EEXIST):
			return -1, err
		}
		at = path.Join(at, part)
	}
	return OpenDirIn(p.root, dir)
}
