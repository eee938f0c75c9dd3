// Package split keeps what it takes to make a tar stream again, byte for byte, of the
// files that were unpacked from it: headers, padding and their order, recorded by tar-split
// (github.com/vbatts/tar-split), gzipped. The files' contents are not in it, only their checksums.
package split

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/containerd/errdefs"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// Recorder takes in a tar stream by Write, which never fails: a stream that cannot be made again (a name twice, a
// header that is none) is told by Close.
type Recorder struct {
	w    *io.PipeWriter
	done chan error
}

// Record begins a recording, which goes to out.
func Record(out io.Writer) *Recorder {
	r, w := io.Pipe()
	rec := &Recorder{w: w, done: make(chan error, 1)}
	go func() {
		err := record(r, out)
		_, _ = io.Copy(io.Discard, r)
		rec.done <- err
	}()
	return rec
}

func record(r io.Reader, out io.Writer) error {
	b := bufio.NewWriterSize(out, 64<<10)
	z, err := gzip.NewWriterLevel(b, gzip.BestSpeed)
	if err != nil {
		return err
	}
	in, parsed, err := asm.NewInputTarStreamWithDone(r, storage.NewJSONPacker(z), nil)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, make([]byte, 64<<10))
	_ = in.Close()
	return errors.Join(err, <-parsed, z.Close(), b.Flush())
}

// Write implements io.Writer.
func (r *Recorder) Write(p []byte) (int, error) { return r.w.Write(p) }

// Close ends the stream, and tells whether it can be made again.
func (r *Recorder) Close() error {
	_ = r.w.Close()
	return <-r.done
}

// Stream makes the tar stream again: recording as Record wrote it, the files' contents of the tree below root, a path
// of the host. Each file's content is compared with its checksum.
func Stream(root string, recording io.ReadCloser) (io.ReadCloser, error) {
	dir, err := tarfs.OpenRoot(root)
	if err != nil {
		return nil, errors.Join(err, recording.Close())
	}
	z, err := gzip.NewReader(bufio.NewReaderSize(recording, 64<<10))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading what a layer's archive was: %w", err), dir.Close(), recording.Close())
	}
	r, w := io.Pipe()
	s := &stream{PipeReader: r, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		b := bufio.NewWriterSize(w, 256<<10)
		err := asm.WriteOutputTarStream(tree{dir}, storage.NewJSONUnpacker(z), b)
		_ = w.CloseWithError(errors.Join(err, b.Flush()))
		_, _ = dir.Close(), recording.Close()
	}()
	return s, nil
}

type stream struct {
	*io.PipeReader
	done chan struct{}
}

// Close ends the stream; nothing reads the files any more when it returns.
func (s *stream) Close() error {
	err := s.PipeReader.Close()
	<-s.done
	return err
}

// tree gives tar-split the files.
type tree struct{ root *os.File }

// Get implements storage.FileGetter.
func (t tree) Get(name string) (io.ReadCloser, error) {
	fd, err := tarfs.OpenIn(int(t.root.Fd()), path.Clean("/" + name)[1:], unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%q is no regular file any more: %w", name, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
