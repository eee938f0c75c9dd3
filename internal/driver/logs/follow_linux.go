package logs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// watcher wakes its owner when something changes in a log's folder.
type watcher struct {
	f    *os.File
	wake chan struct{}
}

func watch(path string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("following a log: %w (see fs.inotify.max_user_instances)", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	const what = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), what); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("following a log in %s: %w", filepath.Dir(path), err)
	}
	w := &watcher{f: f, wake: make(chan struct{}, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := f.Read(buf); err != nil {
				return
			}
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}()
	return w, nil
}

func (w *watcher) close() { _ = w.f.Close() }

// tailReader reads a file that grows, from its own position on.
type tailReader struct {
	f   *os.File
	off int64
}

func (t *tailReader) Read(b []byte) (int, error) {
	n, err := t.f.ReadAt(b, t.off)
	t.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// follow reads the current file on, over rotation and truncation, until the
// process has ended and everything was read.
func (r *reading) follow(files *logFiles, w *watcher, ended <-chan struct{}) error {
	var t *tailReader
	var s *scanner
	begin := func(f *os.File, off int64) {
		t = &tailReader{f: f, off: off}
		s = newScanner(t, r.cfg.Driver)
	}
	if n := len(files.list); n > 0 {
		begin(files.list[n-1].f, files.list[n-1].off)
	}
	over := false
	for {
		if t != nil {
			if st, err := t.f.Stat(); err == nil && st.Size() < t.off {
				begin(t.f, 0) // truncated
			}
			if err := r.drain(s); err != nil || r.done {
				return err
			}
		}
		if next := r.successor(t); next != nil {
			if t != nil {
				// What came between the last look and the rename.
				if err := r.drain(s); err != nil || r.done {
					_ = next.Close()
					return err
				}
			}
			files.list = append(files.list, &logFile{f: next})
			begin(next, 0)
			continue
		}
		if over {
			return nil
		}
		select {
		case <-w.wake:
		case <-ended:
			over = true // once more: what was written before the end is there now
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
}

// successor opens the file that follows the one being read: the current one, or
// when several rotations happened at once, the one after ours.
func (r *reading) successor(t *tailReader) *os.File {
	cur, err := os.Open(r.cfg.Path)
	if err != nil {
		return nil // between two renames, or not there yet: a wake-up follows
	}
	if t == nil {
		return cur
	}
	mine := inode(t.f)
	if inode(cur) == mine {
		_ = cur.Close()
		return nil
	}
	newer := cur
	for n := 1; n < 1<<16; n++ {
		old, err := os.Open(r.cfg.Path + "." + strconv.Itoa(n))
		if err != nil {
			break // compressed or gone: go on with what is known
		}
		if inode(old) == mine {
			_ = old.Close()
			return newer
		}
		_ = newer.Close()
		newer = old
	}
	if newer != cur {
		// Ours is not among them any more; the oldest that is left follows.
		return newer
	}
	return cur
}
