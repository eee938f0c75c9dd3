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
func (l *logFile) rotated(n int64) string {
	if n == 0 {
		return l.cfg.Path
	}
	return l.cfg.Path + "." + strconv.FormatInt(n, 10)
}

// rotate moves log files on by one and begins a new one. Each step is committed
// before it is done and can be repeated: it is done when its source is gone.
func (l *logFile) rotate(c *logCursor, commit func()) error {
	if l.cfg.MaxFile <= 1 {
		if err := unix.Ftruncate(l.fd, 0); err != nil {
			return err
		}
		c.offset, c.rotate = 0, 0
		commit()
		return nil
	}
	l.waitCompress()
	if c.rotate == 0 {
		c.rotate = int64(l.cfg.MaxFile) - 1
		commit()
	}
	for c.rotate > 0 {
		failpoint.Hit("keeper.log-rotate")
		if err := l.shift(c.rotate-1, c.rotate); err != nil {
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
	size, err := l.open()
	if err != nil {
		return err
	}
	if size > 0 {
		return fmt.Errorf("rotating %s: it is still there", l.cfg.Path)
	}
	failpoint.Hit("keeper.log-begun")
	c.offset = 0
	commit()
	if l.cfg.Compress {
		l.startCompress(l.rotated(1))
	}
	return nil
}

// shift renames one generation, plain or compressed.
func (l *logFile) shift(from, to int64) error {
	for i, suffix := range []string{"", ".gz"} {
		src := l.rotated(from) + suffix
		st, err := os.Lstat(src)
		if err != nil {
			continue
		}
		if from == 0 && st.Size() == 0 {
			return nil // the new file already: a kill came right after it was made
		}
		other := []string{".gz", ""}[i]
		if err := os.Remove(l.rotated(to) + other); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Rename(src, l.rotated(to)+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		// Both at once are what a kill left at the end of a compression: the same content.
		_ = os.Remove(l.rotated(from) + other)
		return nil
	}
	return nil
}

func (l *logFile) waitCompress() {
	if l.compress != nil {
		<-l.compress
		l.compress = nil
	}
}

func (l *logFile) startCompress(name string) {
	done := make(chan struct{})
	l.compress = done
	go func() {
		defer close(done)
		if err := compressFile(name); err != nil {
			l.complains("compressing %s: %v", name, err)
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
