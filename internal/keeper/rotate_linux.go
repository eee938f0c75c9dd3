package keeper

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// rotated is the name of the n-th older log file; 0 is the current one.
func (w *logWriter) rotated(n int64) string {
	if n == 0 {
		return w.cfg.Path
	}
	return w.cfg.Path + "." + strconv.FormatInt(n, 10)
}

// rotate moves log files on by one and begins a new one. Each step is committed
// before it is done and can be repeated: it is done when its source is gone.
func (w *logWriter) rotate(c *logCursor, commit func()) error {
	if w.cfg.MaxFile <= 1 {
		if err := unix.Ftruncate(w.fd, 0); err != nil {
			return err
		}
		c.offset, c.rotate = 0, 0
		commit()
		return nil
	}
	w.waitCompress()
	if c.rotate == 0 {
		c.rotate = int64(w.cfg.MaxFile) - 1
		commit()
	}
	for c.rotate > 0 {
		failpoint.Hit("keeper.log-rotate")
		if err := w.shift(c.rotate-1, c.rotate); err != nil {
			return err
		}
		failpoint.Hit("keeper.log-rotated")
		c.rotate--
		if c.rotate == 0 {
			break
		}
		commit()
	}
	// A step of 0 is committed only with the new file's size.
	size, err := w.open()
	if err != nil {
		return err
	}
	if size > 0 {
		return fmt.Errorf("rotating %s: it is still there", w.cfg.Path)
	}
	failpoint.Hit("keeper.log-begun")
	c.offset = 0
	commit()
	if w.cfg.Compress {
		w.startCompress(w.rotated(1))
	}
	return nil
}

// shift renames one generation, plain or compressed.
func (w *logWriter) shift(from, to int64) error {
	for i, suffix := range []string{"", ".gz"} {
		src := w.rotated(from) + suffix
		st, err := os.Lstat(src)
		if err != nil {
			continue
		}
		if from == 0 && st.Size() == 0 {
			return nil // the new file already: a kill came right after it was made
		}
		other := []string{".gz", ""}[i]
		if err := os.Remove(w.rotated(to) + other); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Rename(src, w.rotated(to)+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		// Both at once are what a kill left at the end of a compression: the same content.
		_ = os.Remove(w.rotated(from) + other)
		return nil
	}
	return nil
}

func (w *logWriter) waitCompress() {
	if w.compress != nil {
		<-w.compress
		w.compress = nil
	}
}

func (w *logWriter) startCompress(name string) {
	done := make(chan struct{})
	w.compress = done
	go func() {
		defer close(done)
		if err := compressFile(name); err != nil {
			w.complains("compressing %s: %v", name, err)
		}
	}()
}

// compressFile replaces name by name.gz.
func compressFile(name string) (err error) {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := name + ".gz.tmp"
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = out.Close()
			_ = os.Remove(tmp)
		}
	}()
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, in); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	failpoint.Hit("keeper.log-compressed")
	if err := os.Rename(tmp, name+".gz"); err != nil {
		return err
	}
	failpoint.Hit("keeper.log-replaced")
	return os.Remove(name)
}
