package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
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
	// MaxLayer bounds a layer's archive, in bytes; 0 is the size of the disk.
	MaxLayer int64
	// LazyMounts is the folder below which layers that are not here are served; LazyGone is told when no image and no
	// container needs such a layer as it is served any more. It is called without waiting for it.
	LazyMounts string
	LazyGone   func(diffID digest.Digest)
}

// Store is an open layer store. Its methods may be called concurrently.
type Store struct {
	*folders
	*stacks
	*writables
	*health
}

// Open opens or makes a store below dir. What a crash left half done is deleted.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	f := &folders{dir: dir, boot: o.BootID, maxLayer: o.MaxLayer, trash: newTrash(filepath.Join(dir, "trash"))}
	st := &stacks{folders: f, layers: map[string]*layer{}, chains: map[string]*chain{}, held: map[string]int{}, pinned: map[string]int{}, lazy: lazy{o.LazyMounts, o.LazyGone, map[string]bool{}}}
	ws := &writables{folders: f, stacks: st, containers: map[string]*container{}}
	ws.spare = newSpares(ws)
	s := &Store{f, st, ws, &health{&archives{st}}}
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
	spread(filepath.Join(dir, "tmp"))
	if err := s.choose(o.Driver); err != nil {
		return nil, err
	}
	go s.trash.empty(s.spare.reuse)
	if err := errors.Join(s.makeStubs(), s.sweep(), s.stacks.load(ctx), s.writables.load()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
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

// Close stops the deletions in the background; what is left of them is done after the next Open.
func (s *Store) Close() error {
	s.spare.kept.Stop()
	s.trash.close()
	s.writer.Wait()
	return nil
}
