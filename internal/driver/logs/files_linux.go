package logs

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// logFile is one opened file of a log.
type logFile struct {
	f    *os.File
	gz   bool
	skip bool  // nothing of it is wanted
	off  int64 // where reading begins
	data []byte
}

// logFiles are a log's files, oldest first, the current one last.
type logFiles struct{ list []*logFile }

func (l *logFiles) close() {
	for _, f := range l.list {
		_ = f.f.Close()
	}
}

// openAll opens a log's files. The current one is opened first: when it is rotated
// meanwhile, it turns up again under its next name and is left out there.
func openAll(path string) (*logFiles, error) {
	l := &logFiles{}
	f, err := os.Open(path)
	if err == nil {
		l.list = append(l.list, &logFile{f: f})
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("opening a log: %w", err)
	}
	for _, n := range generations(path) {
		old, err := openOld(path + "." + strconv.Itoa(n))
		if err != nil {
			continue
		}
		if !old.gz && l.has(old.f) {
			_ = old.f.Close()
			continue
		}
		l.list = append([]*logFile{old}, l.list...)
	}
	return l, nil
}

// generations lists the numbers of rotated files, newest (lowest) first.
func generations(path string) (ns []int) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil
	}
	seen := map[int]bool{}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSuffix(rest, ".gz")); err == nil && n > 0 {
			seen[n] = true
		}
	}
	for n := 1; len(ns) < len(seen) && n < 1<<16; n++ {
		if seen[n] {
			ns = append(ns, n)
		}
	}
	return ns
}

func openOld(name string) (*logFile, error) {
	f, err := os.Open(name)
	if err == nil {
		return &logFile{f: f}, nil
	}
	if f, err = os.Open(name + ".gz"); err != nil {
		return nil, err
	}
	return &logFile{f: f, gz: true}, nil
}

func inode(f *os.File) uint64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Ino
}

func (l *logFiles) has(f *os.File) bool {
	for _, x := range l.list {
		if inode(x.f) == inode(f) {
			return true
		}
	}
	return false
}

// scanner reads the file from where its wanted part begins.
func (f *logFile) scanner(driver string) (*scanner, error) {
	if f.data != nil {
		return newScanner(bytes.NewReader(f.data[f.off:]), driver), nil
	}
	if f.gz {
		z, err := gzip.NewReader(f.f)
		if err != nil {
			return nil, fmt.Errorf("reading the log %s: %w", f.f.Name(), err)
		}
		return newScanner(z, driver), nil
	}
	return newScanner(io.NewSectionReader(f.f, f.off, 1<<62), driver), nil
}

// tail marks the last n entries of all files.
func (l *logFiles) tail(n int, driver string) error {
	for i := len(l.list) - 1; i >= 0; i-- {
		f := l.list[i]
		if n == 0 && i < len(l.list)-1 {
			f.skip = true
			continue
		}
		var at io.ReaderAt = f.f
		st, err := f.f.Stat()
		if err != nil {
			return err
		}
		size := st.Size()
		if f.gz {
			z, err := gzip.NewReader(f.f)
			if err != nil {
				return fmt.Errorf("reading the log %s: %w", f.f.Name(), err)
			}
			if f.data, err = io.ReadAll(io.LimitReader(z, 1<<30)); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				return fmt.Errorf("reading the log %s: %w", f.f.Name(), err)
			}
			at, size = bytes.NewReader(f.data), int64(len(f.data))
		}
		if n == 0 {
			f.off = size
			continue
		}
		off, found, err := lastEntries(at, size, n, driver)
		if err != nil {
			return fmt.Errorf("reading the log %s: %w", f.f.Name(), err)
		}
		f.off = off
		n -= found
	}
	return nil
}
