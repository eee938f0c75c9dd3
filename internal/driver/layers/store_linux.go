package layers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/kit/keylock"
)

// The drivers by name.
const (
	DriverOverlay = "overlay"
	DriverCopy    = "copy"
)

// Options change how a store is opened. The zero value suits a daemon.
type Options struct {
	// Driver is DriverOverlay, DriverCopy, or empty to take the first that works here.
	Driver string
	// BootID tells volatile layers of this boot from older ones; empty means the kernel's.
	BootID string
}

// layer is one unpacked directory: a layer alone, or (Chain) what it becomes on top of others.
type layer struct {
	Size    int64 `json:"size"` // sum of file sizes
	Entries int64 `json:"entries"`
	Chain   bool  `json:"chain,omitempty"`
	Implied bool  `json:"implied,omitempty"` // has folders that its archive does not describe
}

// chain is an image's stack of directories.
type chain struct {
	DiffIDs []digest.Digest `json:"diffIDs"`
	Dirs    []string        `json:"dirs"` // names below layers/, lowest first
}

type container struct {
	dir      string
	chain    string
	volatile bool
	asked    atomic.Int32 // how often its root was asked for: once by each start and each view
}

// Store is an open layer store. Its methods may be called concurrently.
type Store struct {
	dir    string
	boot   string
	driver string
	locks  keylock.Locker // by layer directory: it is unpacked once

	mu         sync.Mutex
	layers     map[string]*layer
	chains     map[string]*chain
	containers map[string]*container
	held       map[string]int // layer directories in use by Unpack and its callers

	spare *spares
	trash *trash
}

// Open opens or makes a store below dir. What a crash left half done is deleted.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	s := &Store{
		dir: dir, boot: o.BootID, layers: map[string]*layer{}, chains: map[string]*chain{},
		containers: map[string]*container{}, held: map[string]int{}, trash: newTrash(filepath.Join(dir, "trash")),
	}
	s.spare = newSpares(s)
	if s.boot == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, fmt.Errorf("reading the boot ID: %w", err)
		}
		s.boot = strings.TrimSpace(string(b))
	}
	for _, d := range []string{"layers", "chains", "containers", "volatile/" + s.boot, "tmp", "trash", "empty", "spare"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o710); err != nil {
			return nil, fmt.Errorf("making the layer store: %w", err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "empty"), 0o755); err != nil {
		return nil, err
	}
	if err := s.choose(o.Driver); err != nil {
		return nil, err
	}
	go s.trash.empty(s.spare.reuse)
	if err := errors.Join(s.makeStubs(), s.sweep(), s.load(ctx)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// choose takes the driver. A store remembers its driver: the two lay files out differently.
func (s *Store) choose(driver string) error {
	mark := filepath.Join(s.dir, "driver")
	b, err := os.ReadFile(mark)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	was := strings.TrimSpace(string(b))
	switch {
	case driver == "" && was != "":
		driver = was
	case driver == "":
		driver = DriverOverlay
		if s.probe() != nil {
			driver = DriverCopy
		}
	case driver != DriverOverlay && driver != DriverCopy:
		return fmt.Errorf("unknown storage driver %q: %q and %q are there: %w", driver, DriverOverlay, DriverCopy, errdefs.ErrInvalidArgument)
	}
	if was != "" && was != driver {
		return fmt.Errorf("the layer store %s was made with the driver %q and cannot be used with %q; remove it or choose the former: %w", s.dir, was, driver, errdefs.ErrFailedPrecondition)
	}
	if driver == DriverOverlay {
		if err := s.probe(); err != nil {
			return fmt.Errorf("overlayfs does not work on %s (the driver %q works everywhere): %w", s.dir, DriverCopy, err)
		}
	}
	s.driver = driver
	if was == "" {
		return atomicfile.Write(mark, []byte(driver+"\n"), 0o600)
	}
	return nil
}

// sweep moves what is unfinished, and volatile layers of former boots, into the trash.
func (s *Store) sweep() error {
	var errs []error
	for _, d := range []string{"tmp", "spare", "volatile"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, d))
		errs = append(errs, err)
		for _, e := range entries {
			if e.Name() != s.boot {
				errs = append(errs, s.trash.discard(filepath.Join(s.dir, d, e.Name())))
			}
		}
	}
	return errors.Join(append(errs, s.trash.resume())...)
}

func (s *Store) load(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		l := &layer{}
		b, err := os.ReadFile(filepath.Join(s.dir, "layers", e.Name(), "meta"))
		if err == nil {
			err = json.Unmarshal(b, l)
		}
		if err != nil { // never finished: the file is written before the directory gets its name
			if err := s.trash.discard(filepath.Join(s.dir, "layers", e.Name())); err != nil {
				return err
			}
			continue
		}
		s.layers[e.Name()] = l
	}
	if err := s.loadChains(); err != nil {
		return err
	}
	return errors.Join(s.loadContainers("containers", false), s.loadContainers(filepath.Join("volatile", s.boot), true), context.Cause(ctx))
}

func (s *Store) loadChains() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "chains"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := filepath.Join(s.dir, "chains", e.Name())
		c := &chain{}
		b, err := os.ReadFile(p)
		if err == nil {
			err = json.Unmarshal(b, c)
		}
		whole := err == nil
		for _, d := range c.Dirs {
			whole = whole && s.layers[d] != nil
		}
		if !whole { // a temporary file, or one whose layers are gone
			if err := os.Remove(p); err != nil {
				return err
			}
			continue
		}
		s.chains[e.Name()] = c
	}
	return nil
}

func (s *Store) loadContainers(sub string, volatile bool) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, sub))
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(s.dir, sub, e.Name())
		name, err := os.Readlink(filepath.Join(dir, "chain"))
		if err != nil || name != emptyChain && s.chains[name] == nil {
			// Not finished, or its image's layers are lost: Rootfs will say so. Nothing the user wrote is deleted here.
			if errors.Is(err, os.ErrNotExist) {
				if err := s.trash.discard(dir); err != nil {
					return err
				}
			}
			continue
		}
		s.containers[e.Name()] = &container{dir: dir, chain: name, volatile: volatile}
	}
	return nil
}

// Close stops the deletions in the background; what is left of them is done after the next Open.
func (s *Store) Close() error {
	s.spare.kept.Stop()
	s.trash.close()
	return nil
}

// Driver is the driver in use, by name.
func (s *Store) Driver() string { return s.driver }

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

func (s *Store) layerFS(name string) string { return filepath.Join(s.dir, "layers", name, "fs") }

// temp makes a fresh directory that a crash cannot leave behind.
func (s *Store) temp() (string, error) { return os.MkdirTemp(filepath.Join(s.dir, "tmp"), "n-") }

// syncAll makes everything on the store's file system durable: once per unpacked image, not per file.
func (s *Store) syncAll() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("writing the layers to disk: %w", err)
	}
	return nil
}
