package layers

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// Export implements images.Layers. The stream is written in one pass.
func (ws *writables) Export(ctx context.Context, id string, w io.Writer) error {
	c, err := ws.container(id)
	if err != nil {
		return err
	}
	c.asked.Add(2)
	tw := tar.NewWriter(w)
	if ws.driver == DriverCopy {
		err = ws.exportChanges(ctx, id, c, tw)
	} else {
		var top *os.File
		if top, err = tarfs.OpenRoot(filepath.Join(c.dir, "upper")); err != nil {
			return err
		}
		defer top.Close()
		err = tarfs.Pack(ctx, int(top.Fd()), "", tw, tarfs.PackOptions{Overlay: true})
	}
	return errors.Join(err, tw.Close())
}

// exportChanges writes what differs between two trees.
func (ws *writables) exportChanges(ctx context.Context, id string, c *container, tw *tar.Writer) error {
	changes, err := ws.Changes(ctx, id)
	if err != nil {
		return err
	}
	root, err := tarfs.OpenRoot(filepath.Join(c.dir, "root"))
	if err != nil {
		return err
	}
	defer root.Close()
	packed := tarfs.NewPacker(ctx, tw, tarfs.PackOptions{})
	for _, ch := range changes {
		dir, base := path.Split(strings.TrimPrefix(ch.Path, "/"))
		if ch.Kind == deleted {
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + base, Mode: 0o600, ModTime: time.Unix(0, 0)}); err != nil {
				return err
			}
			continue
		}
		parent, err := tarfs.OpenDirIn(int(root.Fd()), dir)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		err = packed.One(parent, base, dir+base)
		_ = unix.Close(parent)
		if err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies the tree from into the existing directory to, with all attributes.
func copyTree(ctx context.Context, from, to string) error {
	src, err := tarfs.OpenRoot(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := tarfs.OpenRoot(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	r, w := io.Pipe()
	go func() {
		b := bufio.NewWriterSize(w, 256<<10)
		tw := tar.NewWriter(b)
		err := tarfs.Pack(ctx, int(src.Fd()), "", tw, tarfs.PackOptions{})
		w.CloseWithError(errors.Join(err, tw.Close(), b.Flush()))
	}()
	_, err = tarfs.Extract(ctx, dst, r, tarfs.ExtractOptions{})
	_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if err != nil {
		return err
	}
	return likeRoot(to, from)
}

// copyUsage is what a copied container's files take beyond its image's.
func (ws *writables) copyUsage(ctx context.Context, c *container) (int64, error) {
	now, err := treeSize(ctx, filepath.Join(c.dir, "root"))
	if err != nil {
		return 0, err
	}
	was, err := treeSize(ctx, ws.stacks.lower(c.chain)[0])
	return max(0, now-was), err
}
