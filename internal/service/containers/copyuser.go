package containers

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// maxAccounts bounds /etc/passwd and /etc/group of a container, in bytes.
const maxAccounts = 1 << 20

// userOf turns a container's user ("name", "uid", each with ":group") into numbers.
// Names are looked up in the container's own /etc/passwd and /etc/group.
func userOf(ctx context.Context, v View, name string) (uid, gid int, err error) {
	passwd, err := readFile(ctx, v, "/etc/passwd", maxAccounts)
	if err != nil {
		return 0, 0, err
	}
	group, err := readFile(ctx, v, "/etc/group", maxAccounts)
	if err != nil {
		return 0, 0, err
	}
	u, err := user.GetExecUser(name, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return 0, 0, classed.Invalid("the container's user %q is not to be found in it: %v", name, err)
	}
	return u.Uid, u.Gid, nil
}

// readFile reads a small file of a container; one that is not there is empty.
func readFile(ctx context.Context, v View, path string, limit int64) ([]byte, error) {
	st, err := v.Stat(path)
	if err == nil && st.LinkTarget != "" {
		path = st.LinkTarget
		st, err = v.Stat(path)
	}
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if st.Size > limit {
		return nil, classed.Invalid("%s in the container has %d bytes, more than %d", path, st.Size, limit)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.CloseWithError(v.TarOut(ctx, path, "file", w))
	}()
	defer func() { // the view may be closed once nobody reads from it
		enough := errors.New("enough was read")
		stop(enough)
		_ = r.CloseWithError(enough)
		<-done
	}()
	tr := tar.NewReader(r)
	h, err := tr.Next()
	if err != nil {
		return nil, fmt.Errorf("reading %s in the container: %w", path, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil, classed.Invalid("%s in the container is no file", path)
	}
	data, err := io.ReadAll(io.LimitReader(tr, limit))
	if err != nil {
		return nil, fmt.Errorf("reading %s in the container: %w", path, err)
	}
	return data, nil
}
