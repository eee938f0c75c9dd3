package dockerroot

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
)

// Layer is a layer: the files are in the driver's folder, and what else its tar archive had is in tar-split's record.
type Layer struct {
	ChainID, DiffID digest.Digest
	dir             string // of the files
	split           string // tar-split's record
	size            int64  // of the tar archive; 0 is not known yet
}

func (r *Root) layer(chain, diff digest.Digest) (*Layer, error) {
	at := r.image("layerdb", "sha256", chain.Encoded())
	recorded, err := read(filepath.Join(at, "diff"))
	if err != nil {
		return nil, fmt.Errorf("the record of its layer %s is not whole: %w", diff, err)
	}
	if got := digest.Digest(strings.TrimSpace(string(recorded))); got != diff {
		return nil, fmt.Errorf("the record of its layer %s is damaged: it says %q", diff, got)
	}
	dir, err := r.folder(filepath.Join(at, "cache-id"))
	if err != nil {
		return nil, fmt.Errorf("the files of its layer %s: %w", diff, err)
	}
	l := &Layer{ChainID: chain, DiffID: diff, dir: dir, split: filepath.Join(at, "tar-split.json.gz")}
	if _, err := os.Stat(l.split); err != nil {
		return nil, fmt.Errorf("the layer %s has no record of its archive: %w", diff, err)
	}
	return l, nil
}

// folder is where the files of a layer are whose cache ID a file names.
func (r *Root) folder(file string) (string, error) {
	b, err := read(file)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(b))
	if !cacheID.MatchString(id) {
		return "", fmt.Errorf("%s names the folder %q", file, id)
	}
	dir := filepath.Join(r.Path, fmt.Sprintf(drivers[r.Driver], id))
	if st, err := os.Stat(dir); err != nil {
		return "", err
	} else if !st.IsDir() {
		return "", fmt.Errorf("%s is not a folder", dir)
	}
	return dir, nil
}

// entries opens tar-split's record.
func (l *Layer) entries() (storage.Unpacker, io.Closer, error) {
	f, err := os.Open(l.split)
	if err != nil {
		return nil, nil, err
	}
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", l.split, err)
	}
	return storage.NewJSONUnpacker(z), f, nil
}

// Size is that of the layer's tar archive, in bytes.
func (l *Layer) Size() (int64, error) {
	if l.size > 0 {
		return l.size, nil
	}
	up, c, err := l.entries()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var n int64
	for {
		e, err := up.Next()
		if errors.Is(err, io.EOF) {
			l.size = n
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("the record of the layer %s's archive: %w", l.DiffID, err)
		}
		switch {
		case e.Type == storage.SegmentType:
			n += int64(len(e.Payload))
		case e.Size < 0:
			return 0, fmt.Errorf("the record of the layer %s's archive has a file of %d bytes", l.DiffID, e.Size)
		default:
			n += e.Size
		}
	}
}

// WriteTo writes the layer's tar archive, as it was when the layer came, and proves it by its diff ID.
func (l *Layer) WriteTo(ctx context.Context, w io.Writer) error {
	root, err := os.OpenRoot(l.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	up, c, err := l.entries()
	if err != nil {
		return err
	}
	defer c.Close()
	v := l.DiffID.Verifier()
	if err := asm.WriteOutputTarStream(files{ctx, root}, up, io.MultiWriter(w, v)); err != nil {
		return fmt.Errorf("layer %s: %w", l.DiffID, err)
	}
	if !v.Verified() {
		return fmt.Errorf("layer %s: what its files make has another digest: they were changed", l.DiffID)
	}
	return nil
}

// files gives the contents that tar-split's record asks for, from inside a layer's folder.
type files struct {
	ctx  context.Context
	root *os.Root
}

// Get implements storage.FileGetter.
func (f files) Get(name string) (io.ReadCloser, error) {
	if err := context.Cause(f.ctx); err != nil {
		return nil, err
	}
	name = strings.TrimPrefix(filepath.Clean("/"+name), "/")
	st, err := f.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() { // to open a pipe would wait for ever
		return nil, fmt.Errorf("%s is not a file", name)
	}
	return f.root.Open(name)
}
