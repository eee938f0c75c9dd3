//go:build linux

package initproc

import (
	"syscall"

	"github.com/gantry-engine/gantry/runtime/program"
)

func fsopen(fstype string) (uintptr, errno) {
	return call(sysFsopen, ptr(cstr(fstype)), 1, 0)
}

func fsString(fs uintptr, key string, value []byte) errno {
	_, e := call6(sysFsconfig, fs, fsSetString, ptr(cstr(key)), ptr(value), 0, 0)
	return e
}

func fsFlag(fs uintptr, key []byte) errno {
	_, e := call6(sysFsconfig, fs, fsSetFlag, ptr(key), 0, 0, 0)
	return e
}

func fsOption(fs uintptr, opt []byte) errno {
	for i, c := range opt {
		if c == '=' {
			return fsString(fs, string(opt[:i]), opt[i+1:cap0(opt)])
		}
	}
	return fsFlag(fs, opt[:cap0(opt)])
}

// cap0 is the length of a program's string with its zero.
func cap0(b []byte) int { return len(b) + 1 }

// fsMount creates the superblock and gives it as a detached mount.
func fsMount(fs uintptr, attrs uint64) (uintptr, errno) {
	if _, e := call6(sysFsconfig, fs, fsCreate, 0, 0, 0, 0); e != 0 {
		return none, e
	}
	return call(sysFsmount, fs, 1, uintptr(attrs))
}

// fsFailed adds the kernel's own words, read from the context.
func fsFailed(stage, path string, fs uintptr, e errno) *failure {
	buf := make([]byte, 512)
	n, re := call(syscall.SYS_READ, fs, ptr(buf), uintptr(len(buf)))
	if re != 0 || n < 3 {
		return fail(stage, path, e)
	}
	text := buf[2:n]
	for len(text) > 0 && text[len(text)-1] == '\n' {
		text = text[:len(text)-1]
	}
	return failText(stage, path, e, cat(stage, " ", path, ": ", e.Error(), " (", string(text), ")"))
}

// newMount makes a new file system and attaches it.
type newMount struct {
	fstype       string
	source, dest []byte
	attrs, prop  uint64
	opts         [][]byte
	flags        uint64 // program.Mount…
}

func mountNew(root *rootfs, o *program.Reader) *failure {
	n := newMount{string(o.Str()), o.Str(), o.Str(), o.Num(), o.Num(), o.List(), o.Num()}
	if o.Bad {
		return nil
	}
	return n.attach(root)
}

func (n *newMount) attach(root *rootfs) *failure {
	target, f := root.mountPoint(n.dest, n.fstype, false, false, none)
	if f != nil {
		return f
	}
	defer closeFD(target)
	first := n.attrs
	if n.flags&program.MountCopyUp != 0 {
		first &^= attrRdonly
	}
	tree, f := n.tree(first)
	if f != nil {
		if f.errno == syscall.ENODEV && n.flags&program.MountOptional != 0 {
			return nil
		}
		if n.flags&program.MountBindHost != 0 && (f.errno == syscall.EPERM || f.errno == syscall.EBUSY) {
			return n.bindHost(target)
		}
		return f
	}
	defer closeFD(tree)
	if n.flags&program.MountCopyUp != 0 {
		if e := copyTree(target, tree); e != 0 {
			return fail("tmpfs copy-up", string(n.dest), e)
		}
		if n.attrs&attrRdonly != 0 {
			a := mountAttr{set: attrRdonly}
			setattr(tree, nil, atEmptyPath, &a)
		}
	}
	if e := moveMount(tree, target); e != 0 {
		return fail("mount", string(n.dest), e)
	}
	return setPropagation(tree, n.prop, string(n.dest))
}

func setPropagation(tree uintptr, prop uint64, dest string) *failure {
	if prop == 0 {
		return nil
	}
	var flags uintptr = atEmptyPath
	if prop&syscall.MS_REC != 0 {
		flags |= atRecursive
	}
	a := mountAttr{propagation: prop &^ syscall.MS_REC}
	if e := setattr(tree, nil, flags, &a); e != 0 {
		return fail("mount propagation", dest, e)
	}
	return nil
}

// tree gives the file system as a detached mount.
func (n *newMount) tree(attrs uint64) (uintptr, *failure) {
	fs, e := fsopen(n.fstype)
	if e != 0 {
		return none, failText("mount", string(n.dest), e, cat("mount ", string(n.dest), ": file system type ", n.fstype, ": ", e.Error()))
	}
	defer closeFD(fs)
	if len(n.source) > 0 {
		if e := fsString(fs, "source", n.source[:cap0(n.source)]); e != 0 {
			return none, fsFailed("mount", string(n.dest), fs, e)
		}
	}
	for _, opt := range n.opts {
		if e := fsOption(fs, opt); e != 0 {
			return none, fsFailed("mount", cat(string(n.dest), " option ", string(opt)), fs, e)
		}
	}
	tree, e := fsMount(fs, attrs)
	if e != 0 {
		return none, fsFailed("mount", cat(string(n.dest), " (", n.fstype, ")"), fs, e)
	}
	return tree, nil
}

// bindHost is for sysfs in a user namespace that does not own its network namespace.
func (n *newMount) bindHost(target uintptr) *failure {
	tree, e := openTree(atFDCWD, n.dest, treeClone|atRecursive)
	if e != 0 {
		return fail("mount", string(n.dest), e)
	}
	defer closeFD(tree)
	a := mountAttr{set: n.attrs}
	if e := setattr(tree, nil, atEmptyPath|atRecursive, &a); e != 0 {
		return fail("mount", string(n.dest), e)
	}
	if e := moveMount(tree, target); e != 0 {
		return fail("mount", string(n.dest), e)
	}
	return nil
}
