package hostmount

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Propagates implements containers.HostMounts.
func (*Mounts) Propagates(path string, slaveSuffices bool) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil {
		return fmt.Errorf("finding the mount of %s: %w", path, err)
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	point, shared, slave, err := propagation(f, st.Mnt_id)
	switch {
	case err != nil:
		return fmt.Errorf("finding the mount of %s: %w", path, err)
	case shared, slaveSuffices && slave:
		return nil
	case slaveSuffices:
		return fmt.Errorf("path %s is mounted on %s but it is not a shared or slave mount: %w", path, point, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("path %s is mounted on %s but it is not a shared mount: %w", path, point, errdefs.ErrInvalidArgument)
}

// propagation finds a mount in a list of the form of /proc/<pid>/mountinfo (see proc(5)): "id parent
// major:minor root point options [tags] - type …", where a shared mount has the tag shared:n, a slave master:n.
func propagation(list io.Reader, id uint64) (point string, shared, slave bool, err error) {
	sc := bufio.NewScanner(list)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 7 || f[0] != strconv.FormatUint(id, 10) {
			continue
		}
		for _, tag := range f[6:] {
			switch {
			case tag == "-":
				return f[4], shared, slave, nil
			case strings.HasPrefix(tag, "shared:"):
				shared = true
			case strings.HasPrefix(tag, "master:"):
				slave = true
			}
		}
	}
	if err := sc.Err(); err != nil {
		return "", false, false, err
	}
	return "", false, false, fmt.Errorf("the list of mounts has none with the number %d: %w", id, errdefs.ErrNotFound)
}
