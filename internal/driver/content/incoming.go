package content

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/service/images"
)

// incomingLife is how long a blob that has come in, whole or in part, is kept for a pull that goes on.
const incomingLife = 24 * time.Hour

// incoming is the folder of blobs on their way in:
//
//	<dir>/incoming/<boot ID>/<hex>
//
// They are not synced, so those of a former boot may have holes, and are deleted.
type incoming struct{ dir string }

func openIncoming(dir string) (*incoming, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("reading the boot ID: %w", err)
	}
	id := strings.TrimSpace(string(boot))
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if e.Name() != id {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("removing downloads of a former boot: %w", err)
			}
		}
	}
	i := &incoming{filepath.Join(dir, id)}
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of downloads: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(i.dir, landingPrefix+"*"))
	for _, p := range left { // a former process's
		err = errors.Join(err, os.Remove(p))
	}
	return i, errors.Join(err, i.sweep(time.Now()))
}

// landingPrefix begins the names of files of blobs that have no name yet.
const landingPrefix = "landing-"

func (i *incoming) path(d digest.Digest) string { return filepath.Join(i.dir, d.Encoded()) }

// sweep deletes what nobody went on with. What is written to now is younger.
func (i *incoming) sweep(now time.Time) error {
	entries, err := os.ReadDir(i.dir)
	errs := []error{err}
	for _, e := range entries {
		if st, err := e.Info(); err == nil && now.Sub(st.ModTime()) > incomingLife {
			errs = append(errs, os.Remove(filepath.Join(i.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Receive opens the file in which a blob comes in, with what is there of it already. Only one may be open for a blob.
func (i *incoming) Receive(d digest.Digest) (images.Incoming, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return nil, fmt.Errorf("the digest %q is none of SHA-256: %w", d, errdefs.ErrInvalidArgument)
	}
	f, err := os.OpenFile(i.path(d), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the file of a download: %w", err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &arriving{File: f, size: end}, nil
}

// arriving is the file of a blob on its way in. It implements images.Incoming.
type arriving struct {
	*os.File
	size int64
}

func (a *arriving) Size() int64 { return a.size }

func (a *arriving) Write(p []byte) (int, error) {
	n, err := a.File.Write(p)
	a.size += int64(n)
	return n, err
}

// Reset drops what came in.
func (a *arriving) Reset() error {
	a.size = 0
	_, err := a.Seek(0, io.SeekStart)
	return errors.Join(err, a.Truncate(0))
}

// Discard drops the file.
func (a *arriving) Discard() error {
	a.size = 0
	return errors.Join(a.Truncate(0), os.Remove(a.Name()))
}

// Land implements images.Content.
func (i *incoming) Land() (images.Landing, error) {
	f, err := os.CreateTemp(i.dir, landingPrefix)
	if err != nil {
		return nil, fmt.Errorf("opening a file for a blob: %w", err)
	}
	return &landing{arriving: arriving{File: f}, in: i}, nil
}

// landing is a blob's file without its name yet. It implements images.Landing.
type landing struct {
	arriving
	in    *incoming
	named bool
}

func (l *landing) Named(d digest.Digest) error {
	if err := os.Rename(l.Name(), l.in.path(d)); err != nil {
		return fmt.Errorf("naming the blob %s: %w", d, err)
	}
	l.named = true
	return nil
}

func (l *landing) Close() error {
	if l.named {
		return l.File.Close()
	}
	return errors.Join(l.File.Close(), os.Remove(l.Name()))
}

// sync writes to disk what came in of a blob. That the store has it already is as good.
func (i *incoming) sync(d digest.Digest) error {
	f, err := os.Open(i.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the store has it
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func syncDir(p string) error {
	d, err := os.Open(p)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
