package lazy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// forever is how long the kernel may believe what it was told: a layer never changes.
const forever = 365 * 24 * time.Hour

// files is a tree as the FUSE protocol asks for it. It keeps nothing of what it was asked: no handles, no
// reference counts. So a process that takes over a session needs to know nothing of the one before.
type files struct {
	fuse.RawFileSystem // what it does not have: ENOSYS
	tree               *tree
	blob               *blob
	chunks             *chunks
	table              chunk                        // the TOC's place in the blob
	failed             func(node uint64, err error) // a read that could not be answered
}

func newFiles(t *tree, b *blob, cs *chunks, table chunk, failed func(uint64, error)) *files {
	return &files{RawFileSystem: fuse.NewDefaultRawFileSystem(), tree: t, blob: b, chunks: cs, table: table, failed: failed}
}

// String is the file system's name in the mount table.
func (f *files) String() string { return "gantry-lazy" }

func (f *files) attr(id uint64, n *node, out *fuse.Attr) {
	out.Ino, out.Mode, out.Nlink, out.Rdev = id, n.mode, n.nlink, n.rdev
	out.Uid, out.Gid = n.uid, n.gid
	out.Size, out.Blocks, out.Blksize = uint64(n.size), uint64(n.size+511)/512, 4096
	if n.children != nil {
		out.Size = 4096
	}
	out.Mtime, out.Atime, out.Ctime = uint64(n.mtime), uint64(n.mtime), uint64(n.mtime)
}

func (f *files) entry(id uint64, out *fuse.EntryOut) {
	out.NodeId, out.Generation = id, 1
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	f.attr(id, f.tree.node(id), &out.Attr)
}

// Lookup implements fuse.RawFileSystem.
func (f *files) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	n := f.tree.node(h.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	id := n.children[name]
	if id == 0 { // the kernel may remember that, too
		out.SetEntryTimeout(forever)
		out.NodeId = 0
		return fuse.OK
	}
	f.entry(id, out)
	return fuse.OK
}

// Forget implements fuse.RawFileSystem: nodes live as long as the layer.
func (f *files) Forget(uint64, uint64) {}

// GetAttr implements fuse.RawFileSystem.
func (f *files) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := f.tree.node(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	out.SetTimeout(forever)
	f.attr(in.NodeId, n, &out.Attr)
	return fuse.OK
}

// Readlink implements fuse.RawFileSystem.
func (f *files) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	n := f.tree.node(h.NodeId)
	if n == nil || n.target == "" {
		return nil, fuse.EINVAL
	}
	return []byte(n.target), fuse.OK
}

// GetXAttr implements fuse.RawFileSystem. Of a layer without any, the kernel need not ask again.
func (f *files) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if !f.tree.xattrs {
		return 0, fuse.ENOSYS
	}
	n := f.tree.node(h.NodeId)
	if n == nil {
		return 0, fuse.Status(syscall.ESTALE)
	}
	v, ok := n.xattrs[name]
	if !ok {
		return 0, fuse.ENOATTR
	}
	return sized(v, dest)
}

// ListXAttr implements fuse.RawFileSystem.
func (f *files) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	n := f.tree.node(h.NodeId)
	if n == nil {
		return 0, fuse.Status(syscall.ESTALE)
	}
	var list []byte
	for _, name := range slices.Sorted(maps.Keys(n.xattrs)) {
		list = append(append(list, name...), 0)
	}
	return sized(list, dest)
}

// sized copies, or says how much room is needed.
func sized(v, dest []byte) (uint32, fuse.Status) {
	if len(dest) < len(v) {
		return uint32(len(v)), fuse.ERANGE
	}
	return uint32(copy(dest, v)), fuse.OK
}

// Open implements fuse.RawFileSystem: files are opened and closed without asking here, and their pages kept.
func (f *files) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return fuse.ENOSYS
}

// OpenDir implements fuse.RawFileSystem.
func (f *files) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return fuse.ENOSYS
}

// Read implements fuse.RawFileSystem.
func (f *files) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n := f.tree.node(in.NodeId)
	if n == nil || n.mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, fuse.EINVAL
	}
	off := int64(in.Offset)
	if off >= n.size || in.Offset > 1<<62 {
		return fuse.ReadResultData(nil), fuse.OK
	}
	p := buf[:min(int64(len(buf)), n.size-off)]
	ctx, stop := until(cancel)
	defer stop()
	var k int
	var err error
	if n.table {
		k, err = f.readTable(ctx, p, off)
	} else {
		k, err = f.chunks.read(ctx, f.blob, n, p, off)
	}
	switch {
	case err == nil:
		return fuse.ReadResultData(p[:k]), fuse.OK
	case errors.Is(err, errInterrupted):
		return nil, fuse.EINTR
	}
	f.failed(in.NodeId, err)
	return nil, fuse.EIO
}

// readTable reads the TOC itself, which unpacking would leave as a file in the root.
func (f *files) readTable(ctx context.Context, p []byte, off int64) (int, error) {
	data, err := f.chunks.get(ctx, f.blob, f.table)
	if err != nil {
		return 0, err
	}
	return copy(p, data[off:]), nil
}

var errInterrupted = errors.New("interrupted")

// until is a context that ends when the reader gives up.
func until(cancel <-chan struct{}) (context.Context, func()) {
	ctx, stop := context.WithCancelCause(context.Background())
	go func() {
		select {
		case <-cancel:
			stop(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { stop(nil) }
}

// ReadDir implements fuse.RawFileSystem. The offset is the number of names given before.
func (f *files) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(e fuse.DirEntry) bool { return out.AddDirEntry(e) })
}

// ReadDirPlus implements fuse.RawFileSystem.
func (f *files) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(e fuse.DirEntry) bool {
		o := out.AddDirLookupEntry(e)
		if o == nil {
			return false
		}
		if e.Name != "." && e.Name != ".." { // these two are not looked up
			f.entry(e.Ino, o)
		}
		return true
	})
}

func (f *files) list(in *fuse.ReadIn, add func(fuse.DirEntry) bool) fuse.Status {
	n := f.tree.node(in.NodeId)
	if n == nil || n.children == nil {
		return fuse.ENOTDIR
	}
	for i := in.Offset; i < uint64(len(n.order))+2; i++ {
		e := fuse.DirEntry{Off: i + 1, Mode: syscall.S_IFDIR}
		switch i {
		case 0:
			e.Name, e.Ino = ".", in.NodeId
		case 1:
			e.Name, e.Ino = "..", n.parent
		default:
			e.Name = n.order[i-2]
			e.Ino = n.children[e.Name]
			e.Mode = f.tree.node(e.Ino).mode & syscall.S_IFMT
		}
		if !add(e) {
			break
		}
	}
	return fuse.OK
}

// StatFs implements fuse.RawFileSystem.
func (f *files) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, maxBase
	out.Blocks, out.Files = uint64(f.tree.size+4095)/4096, uint64(len(f.tree.nodes))
	return fuse.OK
}
