package dockerroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Root is a Docker data root.
type Root struct {
	Path   string
	Driver string // graph driver whose images are read; empty where there are no images
	// Containerd is set where images are kept by containerd's image store, which is not read here.
	Containerd bool
	// FirstUID and FirstGID are the host's user and group that are root in the containers of an engine with --userns-remap; else 0.
	FirstUID, FirstGID uint32
}

// Problem is something that cannot be read.
type Problem struct {
	Kind string // image, volume, container, network
	Name string // as far as it is known
	Err  error
}

func (p Problem) Error() string { return fmt.Sprintf("%s %s: %v", p.Kind, p.Name, p.Err) }

// drivers are the graph drivers that can be read, by where a layer's files are: %s is its cache ID.
var drivers = map[string]string{
	"overlay2":       "overlay2/%s/diff",
	"fuse-overlayfs": "fuse-overlayfs/%s/diff",
	"aufs":           "aufs/diff/%s",
	"btrfs":          "btrfs/subvolumes/%s",
	"vfs":            "vfs/dir/%s",
}

// marks are folders of which every data root has one.
var marks = []string{"image", "containers", "volumes"}

// Open looks at a data root. driver chooses among several graph drivers; empty takes the one that is there.
func Open(path, driver string) (*Root, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("Docker's data root: %w", err)
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("Docker's data root %s is not a folder: %w", path, errdefs.ErrInvalidArgument)
	}
	r := &Root{Path: path}
	known := false
	for _, m := range marks {
		_, err := os.Stat(filepath.Join(path, m))
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("reading Docker's data root needs root: %w", err)
		}
		known = known || err == nil
	}
	if !known {
		return nil, fmt.Errorf("%s is no data root of Docker's: it has none of the folders %s. With --userns-remap the data root is the folder below, called by two numbers: %w", path, strings.Join(marks, ", "), errdefs.ErrInvalidArgument)
	}
	if err := r.choose(driver); err != nil {
		return nil, err
	}
	r.Containerd = r.hasSnapshots()
	r.remapped()
	return r, nil
}

// choose finds the graph driver whose images are here.
func (r *Root) choose(wanted string) error {
	entries, err := os.ReadDir(filepath.Join(r.Path, "image"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var found, unknown []string
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(r.Path, "image", e.Name(), "imagedb", "content")); err != nil {
			continue
		}
		if drivers[e.Name()] == "" {
			unknown = append(unknown, e.Name())
		} else {
			found = append(found, e.Name())
		}
	}
	if wanted != "" {
		for _, f := range found {
			if f == wanted {
				r.Driver = f
				return nil
			}
		}
		return fmt.Errorf("%s has no images of the storage driver %q that can be read; those of %q can: %w", r.Path, wanted, found, errdefs.ErrNotFound)
	}
	switch {
	case len(found) == 1:
		r.Driver = found[0]
	case len(found) > 1:
		return fmt.Errorf("%s has images of several storage drivers, %s: choose one with --storage-driver: %w", r.Path, strings.Join(found, ", "), errdefs.ErrInvalidArgument)
	case len(unknown) > 0:
		return fmt.Errorf("the images in %s are kept by the storage driver %s, whose layers are not files: save them with docker save, and load the archive here: %w", r.Path, strings.Join(unknown, ", "), errdefs.ErrNotImplemented)
	}
	return nil
}

// remapped reads the root's name, which is made of two numbers where the engine has a user namespace.
func (r *Root) remapped() {
	uid, gid, _ := strings.Cut(filepath.Base(r.Path), ".")
	u, uerr := strconv.ParseUint(uid, 10, 32)
	g, gerr := strconv.ParseUint(gid, 10, 32)
	if uerr == nil && gerr == nil {
		r.FirstUID, r.FirstGID = uint32(u), uint32(g)
	}
}

// hasSnapshots tells whether containerd's image store was used: its snapshotters keep their layers in numbered folders.
func (r *Root) hasSnapshots() bool {
	found, _ := filepath.Glob(filepath.Join(r.Path, "containerd/daemon/io.containerd.snapshotter.v1.*/snapshots/*"))
	if len(found) > 0 {
		return true
	}
	found, _ = filepath.Glob(filepath.Join(r.Path, "rootfs/overlayfs/*")) // of running containers, with a containerd elsewhere
	return len(found) > 0
}

// image is a path below the driver's folder of metadata.
func (r *Root) image(parts ...string) string {
	return filepath.Join(append([]string{r.Path, "image", r.Driver}, parts...)...)
}

// maxFile bounds a metadata file, in bytes.
const maxFile = 16 << 20

// read gives a small file.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return b, err
}

func readJSON(path string, v any) error {
	b, err := read(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is not the JSON it should be: %w", path, err)
	}
	return nil
}

var (
	hexID   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	cacheID = regexp.MustCompile(`^[0-9a-zA-Z_-]{1,128}$`)
)
