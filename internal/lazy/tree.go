package lazy

import (
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"
)

// The names by which layers tell of deletions (OCI image specification, layer.md), and what overlayfs has for them.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
	opaqueXattr    = "trusted.overlay.opaque"
)

// node is a file of a layer. It never changes once the tree is built.
type node struct {
	mode     uint32 // with the type, as stat has it
	uid, gid uint32
	rdev     uint32
	nlink    uint32
	mtime    int64 // seconds
	size     int64
	target   string // of a symbolic link
	xattrs   map[string][]byte
	children map[string]uint64 // of a directory: node IDs by name
	order    []string          // of a directory: its names, sorted
	chunks   []chunk           // of a regular file, in the order of its bytes
	parent   uint64            // of a directory
	table    bool              // its content is the TOC itself
}

// chunk is a piece of a file's content: bytes [inner, inner+size) of what the gzip members from start on unpack to.
type chunk struct {
	at         int64 // in the file
	size       int64
	start, end int64 // in the blob
	inner      int64
	digest     digest.Digest
}

// tree is a layer as overlayfs wants to see it: exactly what unpacking it under its diff ID makes (tarfs.Extract), except for times that
// no archive gives. The node with the ID n is nodes[n-1]; the same TOC always gives the same IDs, so that a kernel that knows
// them can be served on by another process.
type tree struct {
	nodes   []node
	implied bool  // it has folders that the archive does not describe
	xattrs  bool  // some file has an extended attribute
	first   int64 // bytes of the blob that the image's maker wants to be here first
	size    int64 // of all regular files
	whited  map[string]bool
	last    *node // the regular file whose chunks follow
}

const rootID = 1

func (t *tree) node(id uint64) *node {
	if id == 0 || id > uint64(len(t.nodes)) {
		return nil
	}
	return &t.nodes[id-1]
}

// growTree makes the tree of a TOC that begins at byte tocAt of the blob and has tocSize bytes.
func growTree(toc *estargz.JTOC, tocAt, tocSize int64) (*tree, error) {
	t := &tree{nodes: make([]node, 0, len(toc.Entries)+2), whited: map[string]bool{}}
	t.add(node{mode: syscall.S_IFDIR | 0o755, children: map[string]uint64{}, parent: rootID})
	offsets := []int64{tocAt}
	for _, e := range toc.Entries {
		if e.Type != "chunk" && (e.Type != "reg" || e.Size == 0) {
			continue // what has no content has no place
		}
		if e.Offset < 0 || e.Offset >= tocAt {
			return nil, unfit("%q would begin at byte %d, its table of contents at %d", e.Name, e.Offset, tocAt)
		}
		offsets = append(offsets, e.Offset)
	}
	slices.Sort(offsets)
	offsets = slices.Compact(offsets)
	for _, e := range toc.Entries {
		if err := t.entry(e, offsets); err != nil {
			return nil, err
		}
	}
	if err := t.complete(); err != nil {
		return nil, err
	}
	id := t.add(node{mode: syscall.S_IFREG, size: tocSize, nlink: 1, table: true})
	t.put(rootID, estargz.TOCTarName, id)
	t.size += tocSize
	t.finish()
	return t, nil
}

func (t *tree) add(n node) uint64 {
	t.nodes = append(t.nodes, n)
	return uint64(len(t.nodes))
}

// entry takes one entry in, as unpacking it would.
func (t *tree) entry(e *estargz.TOCEntry, offsets []int64) error {
	if e.Type == "chunk" {
		if t.last == nil {
			return unfit("a chunk of no file")
		}
		return t.last.piece(e, offsets)
	}
	if err := t.complete(); err != nil {
		return err
	}
	name, err := cleanName(e.Name)
	if err != nil {
		return err
	}
	n, err := describe(e)
	if err != nil {
		return err
	}
	if name == "" {
		return t.root(e, n)
	}
	dir, base := path.Split(name)
	parent, err := t.folder(path.Clean("/" + dir)[1:])
	if err != nil {
		return err
	}
	if len(base) > maxBase {
		return unfit("the name %q is longer than %d bytes", base, maxBase)
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return t.whiteout(parent, name, base)
	}
	if e.Type == "hardlink" {
		return t.link(parent, base, e.LinkName)
	}
	if base == estargz.PrefetchLandmark && dir == "" {
		t.first = e.Offset
	}
	if n.mode&syscall.S_IFMT == syscall.S_IFDIR {
		return t.directory(parent, name, base, n)
	}
	n.nlink = 1
	if n.mode&syscall.S_IFMT == syscall.S_IFREG && n.size > 0 {
		if err := n.piece(e, offsets); err != nil {
			return err
		}
	}
	t.put(parent, base, t.add(n))
	if n.mode&syscall.S_IFMT == syscall.S_IFREG {
		t.last = &t.nodes[len(t.nodes)-1]
		t.size += n.size
	}
	return nil
}

func (t *tree) root(e *estargz.TOCEntry, n node) error {
	if e.Type != "dir" {
		return unfit("the entry %q, which is no directory, would replace the root", e.Name)
	}
	r := t.node(rootID)
	r.mode, r.uid, r.gid, r.mtime = n.mode, n.uid, n.gid, n.mtime
	r.merge(n.xattrs)
	return nil
}

// directory makes a directory, or gives the one that is there other attributes.
func (t *tree) directory(parent uint64, name, base string, n node) error {
	if id := t.node(parent).children[base]; id != 0 && t.node(id).children != nil {
		was := t.node(id)
		was.mode, was.uid, was.gid, was.mtime = n.mode, n.uid, n.gid, n.mtime
		was.merge(n.xattrs)
	} else {
		n.children, n.parent = map[string]uint64{}, parent
		t.put(parent, base, t.add(n))
	}
	if t.whited[name] {
		t.node(t.node(parent).children[base]).opaque()
	}
	return nil
}

func (n *node) merge(xattrs map[string][]byte) {
	if n.xattrs == nil {
		n.xattrs = map[string][]byte{}
	}
	maps.Copy(n.xattrs, xattrs)
}

func (n *node) opaque() { n.merge(map[string][]byte{opaqueXattr: []byte("y")}) }

// put gives a node a name, in place of what has it.
func (t *tree) put(parent uint64, base string, id uint64) {
	p := t.node(parent)
	if was := p.children[base]; was != 0 {
		t.drop(was)
	}
	p.children[base] = id
}

// drop takes a name away from a node, and from those below it.
func (t *tree) drop(id uint64) {
	n := t.node(id)
	if n.children == nil {
		if n.nlink--; n.nlink == 0 && n.mode&syscall.S_IFMT == syscall.S_IFREG {
			t.size -= n.size
		}
		return
	}
	for _, c := range n.children {
		t.drop(c)
	}
}

// folder finds a directory, and makes what is missing of it. A path through a symbolic link may lead into the layers below.
func (t *tree) folder(dir string) (uint64, error) {
	at := uint64(rootID)
	if dir == "" {
		return at, nil
	}
	for part := range strings.SplitSeq(dir, "/") {
		id := t.node(at).children[part]
		switch {
		case id == 0 && len(part) > maxBase:
			return 0, unfit("the name %q is longer than %d bytes", part, maxBase)
		case id == 0:
			t.implied = true
			id = t.add(node{mode: syscall.S_IFDIR | 0o755, children: map[string]uint64{}, parent: at})
			t.node(at).children[part] = id
		case t.node(id).children == nil:
			return 0, unfit("%q is no directory, but has files", dir)
		}
		at = id
	}
	return at, nil
}

// whiteout does what a ".wh." entry asks for.
func (t *tree) whiteout(parent uint64, name, base string) error {
	if base == whiteoutOpaque {
		t.node(parent).opaque()
		return nil
	}
	if strings.HasPrefix(base, whiteoutMeta) {
		return nil // aufs's own files
	}
	gone := strings.TrimPrefix(base, whiteoutPrefix)
	if gone == "" || gone == "." || gone == ".." {
		return unfit("the whiteout %q", name)
	}
	t.whited[path.Join(path.Dir(name), gone)] = true
	id := t.node(parent).children[gone]
	if id == 0 {
		id = t.add(node{mode: syscall.S_IFCHR, nlink: 1})
		t.node(parent).children[gone] = id
		return nil
	}
	if n := t.node(id); n.children != nil {
		n.opaque()
	}
	return nil
}

// link gives a file another name.
func (t *tree) link(parent uint64, base, target string) error {
	name, err := cleanName(target)
	if err != nil {
		return err
	}
	id := uint64(rootID)
	for part := range strings.SplitSeq(name, "/") {
		if id = t.node(id).children[part]; id == 0 {
			return unfit("%q is a hard link to %q, which is in another layer", base, target)
		}
	}
	n := t.node(id)
	if n.children != nil {
		return unfit("%q is a hard link to the directory %q", base, target)
	}
	n.nlink++
	t.put(parent, base, id)
	return nil
}

// complete looks whether the file whose chunks came last has them all.
func (t *tree) complete() error {
	n := t.last
	t.last = nil
	if n == nil {
		return nil
	}
	end := int64(0)
	for _, c := range n.chunks {
		if c.at != end {
			return unfit("a file has a gap at byte %d", end)
		}
		end += c.size
	}
	if end != n.size {
		return unfit("a file of %d bytes has chunks for %d", n.size, end)
	}
	return nil
}

// piece adds what an entry says of a file's content.
func (n *node) piece(e *estargz.TOCEntry, offsets []int64) error {
	c := chunk{at: e.ChunkOffset, size: e.ChunkSize, start: e.Offset, inner: e.InnerOffset, digest: digest.Digest(e.ChunkDigest)}
	if c.size == 0 {
		c.size = n.size - c.at
	}
	switch {
	case c.at < 0 || c.size <= 0 || c.at+c.size > n.size || c.at+c.size < 0:
		return unfit("a file of %d bytes has a chunk of %d at %d", n.size, c.size, c.at)
	case c.size > maxChunk || c.inner < 0 || c.inner > maxChunk:
		return unfit("a chunk of %d bytes at byte %d of its gzip stream is larger than %d", c.size, c.inner, maxChunk)
	case c.digest.Validate() != nil || c.digest.Algorithm() != digest.SHA256:
		return unfit("a chunk without a SHA-256 digest (%q)", e.ChunkDigest)
	}
	next, found := slices.BinarySearch(offsets, c.start)
	if found {
		next++
	}
	c.end = offsets[min(next, len(offsets)-1)]
	if c.end <= c.start {
		return unfit("a chunk of no bytes at byte %d", c.start)
	}
	n.chunks = append(n.chunks, c)
	return nil
}

// finish counts links and sorts names.
func (t *tree) finish() {
	t.whited = nil
	for i := range t.nodes {
		n := &t.nodes[i]
		t.xattrs = t.xattrs || len(n.xattrs) > 0
		if n.children == nil {
			continue
		}
		n.nlink = 2
		for _, c := range n.children {
			if t.node(c).children != nil {
				n.nlink++
			}
		}
		n.order = slices.Sorted(maps.Keys(n.children))
	}
}

// describe is an entry as a node, without its content.
func describe(e *estargz.TOCEntry) (node, error) {
	n := node{mode: uint32(e.Mode) & 0o7777}
	if e.UID < 0 || e.GID < 0 || int64(e.UID) >= 1<<32-1 || int64(e.GID) >= 1<<32-1 {
		return n, unfit("the owner %d:%d of %q is out of range", e.UID, e.GID, e.Name)
	}
	n.uid, n.gid = uint32(e.UID), uint32(e.GID)
	if e.ModTime3339 != "" {
		at, err := time.Parse(time.RFC3339, e.ModTime3339)
		if err != nil {
			return n, unfit("the time of %q: %v", e.Name, err)
		}
		n.mtime = at.Unix()
	}
	switch e.Type {
	case "dir":
		n.mode |= syscall.S_IFDIR
	case "reg":
		if n.mode |= syscall.S_IFREG; e.Size < 0 {
			return n, unfit("%q has a size of %d bytes", e.Name, e.Size)
		}
		n.size = e.Size
	case "symlink":
		if len(e.LinkName) > maxName || e.LinkName == "" {
			return n, unfit("%q is a symbolic link to a name of %d bytes", e.Name, len(e.LinkName))
		}
		n.mode, n.target, n.size = syscall.S_IFLNK|0o777, e.LinkName, int64(len(e.LinkName))
	case "char":
		n.mode |= syscall.S_IFCHR
	case "block":
		n.mode |= syscall.S_IFBLK
	case "fifo":
		n.mode |= syscall.S_IFIFO
	case "hardlink":
	default:
		return n, unfit("%q is of the unknown type %q", e.Name, e.Type)
	}
	if e.Type == "char" || e.Type == "block" {
		major, minor := uint32(e.DevMajor), uint32(e.DevMinor)
		n.rdev = minor&0xff | major&0xfff<<8 | minor&^0xff<<12 // as the kernel's new_encode_dev
	}
	for name, value := range e.Xattrs {
		plain := e.Type == "reg" || e.Type == "dir"
		if overlayOwn(name) || strings.HasPrefix(name, "user.") && !plain {
			continue // as unpacking does, and as file systems keep them
		}
		if n.xattrs == nil {
			n.xattrs = map[string][]byte{}
		}
		n.xattrs[name] = value
	}
	return n, nil
}

func overlayOwn(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// cleanName makes an archive's name relative to the root: "" is the root itself.
func cleanName(name string) (string, error) {
	if len(name) > maxName || strings.ContainsRune(name, 0) {
		return "", unfit("a name of %d bytes, or with a null byte", len(name))
	}
	if c := path.Clean(strings.TrimLeft(name, "/")); c == ".." || strings.HasPrefix(c, "../") {
		return "", unfit("the name %q leads out of the layer", name)
	}
	return path.Clean("/" + name)[1:], nil
}
