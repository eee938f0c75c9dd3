package layers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stubs are what every container has whether its image has it or not: places to mount on, and marks that programs
// look for. They are the lowest layer of all, so that a start makes nothing in the writable layer, and neither
// diff nor commit sees them. Folders end with a slash, links say where they lead.
var stubs = []struct{ path, link string }{
	{"dev/", ""}, {"dev/console", ""}, {"dev/pts/", ""}, {"dev/shm/", ""}, {"dev/mqueue/", ""}, {"proc/", ""}, {"sys/", ""},
	{"etc/", ""}, {"etc/hostname", ""}, {"etc/hosts", ""}, {"etc/resolv.conf", ""}, {"etc/mtab", "/proc/mounts"}, {".dockerenv", ""},
}

func (f *folders) stubDir() string { return filepath.Join(f.dir, "stubs") }

// makeStubs completes the lowest layer. It is made out of nothing at any time, so nothing is synced.
func (f *folders) makeStubs() error {
	for _, st := range append([]struct{ path, link string }{{"/", ""}}, stubs...) {
		path := filepath.Join(f.stubDir(), st.path)
		var err error
		switch {
		case st.link != "":
			err = os.Symlink(st.link, path)
		case st.path[len(st.path)-1] == '/':
			if err = os.Mkdir(path, 0o755); err == nil {
				err = os.Chmod(path, 0o755)
			}
		default:
			var f *os.File
			if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755); err == nil {
				err = errors.Join(f.Chmod(0o755), f.Close())
			}
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making the lowest layer of all containers: %w", err)
		}
	}
	return nil
}
