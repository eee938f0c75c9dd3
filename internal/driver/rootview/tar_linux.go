package rootview

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// TarOut implements containers.View. An empty base, for a folder, gives names relative
// to it (docker export); what is mounted in the container is then left out.
func (v *view) TarOut(ctx context.Context, p, base string, w io.Writer) error {
	dir, name, err := v.locate(p)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	b := bufio.NewWriterSize(w, 128<<10)
	tw := tar.NewWriter(b)
	if err := tarfs.Pack(ctx, dir, name, tw, tarfs.PackOptions{Base: base, SkipMounts: base == ""}); err != nil {
		return classify(err, p)
	}
	return errors.Join(tw.Close(), b.Flush())
}

// TarIn implements containers.View.
func (v *view) TarIn(ctx context.Context, p string, r io.Reader, o containers.TarInOptions) error {
	fd, err := tarfs.OpenIn(int(v.root.Fd()), p, unix.O_PATH)
	if err != nil {
		return classify(err, p)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstatat(fd, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("extraction point is not a directory: %w", errdefs.ErrInvalidArgument)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err == nil && fs.Flags&unix.ST_RDONLY != 0 { // of the mount that p leads to
		return v.readOnly(fd)
	}
	x := tarfs.ExtractOptions{Base: p, NoOverwriteDirNonDir: o.NoOverwriteDirNonDir}
	if o.CopyUIDGID {
		x.Owner = &tarfs.Owner{UID: o.UID, GID: o.GID}
	}
	_, err = tarfs.Extract(ctx, v.root, r, x)
	if errors.Is(err, unix.EROFS) {
		return v.readOnly(fd)
	}
	return err
}

// readOnly tells which of the two cannot be written to.
func (v *view) readOnly(fd int) error {
	var root, here unix.Statx_t
	const mask = unix.STATX_MNT_ID
	err := errors.Join(
		unix.Statx(int(v.root.Fd()), "", unix.AT_EMPTY_PATH, mask, &root),
		unix.Statx(fd, "", unix.AT_EMPTY_PATH, mask, &here),
	)
	if err == nil && root.Mnt_id != here.Mnt_id {
		return fmt.Errorf("mounted volume is marked read-only: %w", errdefs.ErrPermissionDenied)
	}
	return fmt.Errorf("container rootfs is marked read-only: %w", errdefs.ErrPermissionDenied)
}
